"""MultiStart: one solver, many plans side by side; the planner that agents and `solve` use.

    initial guesses   each the cheapest of several drawn plans
    halving           after some iterations only the cheapest plans go on (successive halving)
    resample          now and then, other endings of the plans are tried
    select            in the end, the plan to return is chosen

Restarts are rows of the batch for the solver, so they cost little. The cheapest plan of every restart is kept by true
rollout cost, whatever the solver does next: planning can be stopped at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, instance_of, is_count, shown
from grasp_agent.core.rng import split
from grasp_agent.core.rows import map_rows, take, where_rows
from grasp_agent.core.types import Plan, Problem, Status
from grasp_agent.planning.combine.robust_choice import RobustChoice
from grasp_agent.planning.combine.tail_resample import TailResample
from grasp_agent.planning.initial_guesses import initial_guesses
from grasp_agent.planning.plans import Plans, joined, repeated, start_at
from grasp_agent.planning.rollout import environment_units, one_step, repeat_problem
from grasp_agent.planning.solvers.solver import AnySolver, Solver
from grasp_agent.planning.warm_start import warm_start


@dataclass(frozen=True)
class Search:
    """What is known of B problems while they are planned for; every leaf is [B, ...].

    Attributes:
        keys: random key per row, [B].
        iteration: iterations so far, [B], on the CPU.
        inner: the solver's state, every leaf [B, R, ...].
        kept: cheapest plan of each restart so far, [B, R].
        nothing: the plan of zero actions, M = 1.
    """

    keys: Tensor
    iteration: Tensor
    inner: Any
    kept: Plans
    nothing: Plans

    @property
    def best(self) -> Plans:
        """The cheapest plan so far, M = 1."""
        return joined(self.nothing, self.kept).cheapest()

    @property
    def cost(self) -> Tensor:
        """Its true rollout cost, [B]."""
        return torch.minimum(self.nothing.cost[:, 0], self.kept.cost.amin(dim=1))


@dataclass(frozen=True)
class MultiStart:
    """Restarts of a solver.

    Attributes:
        solver: what improves each plan.
        restarts: R, plans improved side by side.
        candidates: plans drawn for each initial guess, of which the cheapest is taken; 0 begins with the plan of zero
            actions (and random plans, if R > 1) and asks the model neither for proposals nor for costs.
        init_scale: standard deviation of random plans, in half-ranges of the action.
        correlation: of a random action with the one an environment step later.
        refresh: restarts, never the first, that begin anew at every warm start.
        halving: pairs (n, keep): after n iterations the `keep` cheapest restarts go on.
        resample: other endings of the plans; None tries none.
        select: which plan is returned in the end; None returns the cheapest.
        iterations: that an agent spends on a decision when it is given no budget; None asks the solver.
    """

    solver: AnySolver
    restarts: int = 8
    candidates: int = 8
    init_scale: float = 0.5
    correlation: float = 0.9
    refresh: int = 4
    halving: tuple[tuple[int, int], ...] = ()
    resample: TailResample | None = None
    select: RobustChoice | None = None
    iterations: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        name = type(self).__name__
        expected = "a solver such as GaussNewton()"
        instance_of(f"{name}.solver", self.solver, Solver, expected)  # type: ignore[type-abstract]
        if self.resample is not None:
            instance_of(f"{name}.resample", self.resample, TailResample, "a TailResample or None")
        if self.select is not None:
            instance_of(f"{name}.select", self.select, RobustChoice, "a RobustChoice or None")
        at_least(self, 1, "restarts", "iterations")
        at_least(self, 0, "init_scale", "refresh", "candidates")
        fraction(self, "correlation")
        if not self._halves():
            raise ValueError(
                f"{name}.halving: expected pairs (iterations, restarts to keep), iterations growing and restarts,"
                f" {self.restarts} at first, falling, such as ((3, 6), (6, 2)); got {shown(self.halving)}"
            )

    def _halves(self) -> bool:
        """Whether `halving` is pairs of whole numbers that follow from one another."""
        if not isinstance(self.halving, tuple | list):
            return False
        rungs = [(0, self.restarts), *self.halving]
        if not all(isinstance(rung, tuple | list) and len(rung) == 2 and all(map(is_count, rung)) for rung in rungs):
            return False
        return all(n > before and 1 <= keep <= of for (before, of), (n, keep) in pairwise(rungs))

    @property
    def decision_iterations(self) -> int:
        """Iterations an agent spends on a decision when it is given no budget."""
        return self.iterations or self.solver.decision_iterations

    def begin(self, problem: Problem, keys: Tensor) -> Search:
        """The search before its first iteration; `keys` are random keys, one per row, [B]."""
        keys = keys.to(problem.goal.device)
        plans, nothing = initial_guesses(
            problem, split(keys, 0), self.restarts, self.candidates, self.init_scale, self.correlation
        )
        serial = repeat_problem(problem, self.restarts)
        inner = self.solver.init(serial, start_at(plans), repeated(split(keys, 1), self.restarts))
        return self._search(split(keys, 2), _unflat(inner, problem.batch), plans, nothing)

    def step(self, problem: Problem, search: Search) -> Search:
        """One iteration of the solver on every restart that takes part."""
        i = int(search.iteration[0])
        width, following = self._width(i), self._width(i + 1)
        turn = 0 if self.resample is None else self.resample.turn(i + 1)
        serial = repeat_problem(problem, width)
        inner, made = self.solver.step(serial, _flat(search.inner, width))
        search = replace(search, iteration=search.iteration + 1, inner=_with_rest(inner, search.inner))
        if made is not None:
            search = _keep(search, made)
        if following < width or turn:  # both go by what the iterations so far have brought
            search = self._evaluated(problem, search, width)
        if following < width:
            search = _cheapest_first(search)
        return self._resampled(problem, search, following, turn) if turn else search

    def _width(self, iterations: int) -> int:
        """Restarts that take part after so many iterations; they come first."""
        return min([self.restarts, *(keep for n, keep in self.halving if iterations >= n)])

    def _resampled(self, problem: Problem, search: Search, width: int, turn: int) -> Search:
        assert self.resample is not None
        kept = search.kept.part(0, width)
        start = start_at(self.resample.improved(problem, kept, split(split(search.keys, 0), turn), turn))
        serial, keys = repeat_problem(problem, width), repeated(split(split(search.keys, 1), turn), width)
        inner = self.solver.restart(serial, _flat(search.inner, width), start, keys)
        return _keep(replace(search, inner=_with_rest(inner, search.inner)), start.as_plans)

    def evaluate(self, problem: Problem, search: Search) -> Search:
        """Roll out the plans that the solver stands at, where it has not done so, and keep the cheapest."""
        return self._evaluated(problem, search, self._width(int(search.iteration[0])))

    def _evaluated(self, problem: Problem, search: Search, width: int) -> Search:
        now = self.solver.current(repeat_problem(problem, width), _flat(search.inner, width))
        return _keep(search, now.as_plans)

    def shift(self, problem: Problem, search: Search, steps: int) -> Search:
        """Warm start: the search for a `problem` that begins `steps` environment steps after that of `search`."""
        keys = split(search.keys, 2)
        warm = warm_start(
            problem,
            search.kept,
            search.best,
            search.kept.cost.argmin(dim=1),
            steps,
            split(keys, 0),
            self.refresh,
            self.candidates,
            self.init_scale,
            self.correlation,
        )
        going_on = warm.parent_index.shape[1]
        parents = _flat(map_rows(lambda x: _rows(x, warm.parent_index), search.inner), going_on)
        own = repeated(split(keys, 1), self.restarts).view(-1, self.restarts)
        start = start_at(warm.plans.part(0, going_on))
        inner = self.solver.shift(repeat_problem(problem, going_on), parents, start, own[:, :going_on].flatten(), steps)
        inner = _unflat(inner, problem.batch)
        if going_on < self.restarts:
            serial = repeat_problem(problem, self.restarts - going_on)
            fresh = self.solver.init(serial, start_at(warm.plans.part(going_on)), own[:, going_on:].flatten())
            inner = map_rows(lambda a, b: torch.cat([a, b], dim=1), inner, _unflat(fresh, problem.batch))
        return self._search(split(keys, 2), inner, warm.plans, warm.nothing)

    def finish(self, problem: Problem, search: Search) -> Plan:
        """The plan to return; `solve` fills in what it knows of status, trace, iterations and time."""
        widths = torch.tensor([self._width(i) for i in search.iteration.tolist()])
        width = int(widths.max())
        index = search.kept.cost.argmin(dim=1)
        best = search.best
        if self.select is not None and width > 1:
            kept = search.kept.part(0, width)
            dropped = torch.arange(width) >= widths.unsqueeze(1)
            kept = replace(kept, cost=kept.cost.masked_fill(dropped.to(kept.cost.device), torch.inf))
            index = self.select.choose(problem, kept, split(search.keys, 3))
            chosen = kept.take(index.unsqueeze(1))
            best = where_rows(chosen.cost[:, 0].isfinite(), chosen, best)
        cost = best.cost[:, 0]
        return Plan(
            actions=environment_units(problem, best.actions[:, 0]).clamp(problem.low, problem.high),
            states=best.states[:, 0],
            cost=cost,
            status=torch.where(cost.isfinite(), int(Status.RUNNING), int(Status.NON_FINITE)),
            defects=self.defects(problem, search, index),
            restarts=search.kept.cost,
            restart=index,
            cost_trace=cost.unsqueeze(1),
        )

    def virtual_states(self, problem: Problem, search: Search) -> tuple[Tensor, Tensor] | None:
        """Actions [B, R, T, A] and virtual states s_0..s_T [B, R, T + 1, *S] of all restarts, if the solver has any."""
        found = self.solver.trajectory(repeat_problem(problem, self.restarts), _flat(search.inner, self.restarts))
        if found is None:
            return None
        shape = (problem.batch, self.restarts)
        return found.actions.unflatten(0, shape), found.states.unflatten(0, shape)

    @torch.no_grad()
    def defects(self, problem: Problem, search: Search, index: Tensor) -> Tensor:
        """Mean squared gap between the virtual states of a restart [B] and one-step predictions from them, [B, T]."""
        virtual = self.virtual_states(problem, search)
        if virtual is None:
            return problem.goal.new_zeros(problem.batch, problem.horizon)
        u, s = (take(x, index.unsqueeze(1))[:, 0] for x in virtual)
        gap: Tensor = (one_step(problem, u, s[:, 1:-1]) - s[:, 1:]).flatten(2).square().mean(2)
        return gap

    def _search(self, keys: Tensor, inner: Any, plans: Plans, nothing: Plans) -> Search:
        return Search(keys, torch.zeros(len(keys), dtype=torch.int64), inner, plans, nothing)


# ----- restarts as rows -------------------------------------------------------------------------------------


def _flat(inner: Any, width: int) -> Any:
    """The first `width` restarts of a state [B, R, ...] as rows, [B * width, ...]."""
    return map_rows(lambda x: x[:, :width].flatten(0, 1), inner)


def _unflat(inner: Any, batch: int) -> Any:
    """Rows [B * R, ...] as restarts, [B, R, ...]."""
    return map_rows(lambda x: x.unflatten(0, (batch, -1)), inner)


def _with_rest(inner: Any, whole: Any) -> Any:
    """A state [B, R, ...] with its first restarts from the rows of `inner`; the others wait as they are."""

    def put(rows: Tensor, all_of: Tensor) -> Tensor:
        first = rows.unflatten(0, (len(all_of), -1))
        return first if first.shape[1] == all_of.shape[1] else torch.cat([first, all_of[:, first.shape[1] :]], dim=1)

    return map_rows(put, inner, whole)


def _keep(search: Search, made: Plans) -> Search:
    """Keep what is cheaper: plans [B * width, M] of the first restarts."""
    b, r = search.kept.cost.shape
    best = map_rows(lambda x: x[:, 0].unflatten(0, (b, -1)), made if made.cost.shape[1] == 1 else made.cheapest())
    width = best.cost.shape[1]
    kept = search.kept.part(0, width).or_cheaper(best)
    return replace(search, kept=kept if width == r else joined(kept, search.kept.part(width)))


def _cheapest_first(search: Search) -> Search:
    """The search with its restarts in the order of their costs."""
    order = search.kept.cost.argsort(dim=1, stable=True)
    return replace(search, kept=search.kept.take(order), inner=map_rows(lambda x: _rows(x, order), search.inner))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """The restarts that `index` [B, N] names: [B, R, ...] -> [B, N, ...]."""
    if x.device != index.device:  # counters on the CPU are the same for all restarts of a row
        return x[:, : index.shape[1]]
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), index]
