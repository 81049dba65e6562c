"""The one planning loop: iterate until the budget ends, and return the best plan by true rollout cost.

`iterate` is a generator of what is known after every iteration; `solve` runs it to its end. Nothing else in the package
loops over a planner's iterations: benchmark and pictures iterate over `iterate` and look at what it yields.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grasp_agent.core.checks import shown, whole_number
from grasp_agent.core.rows import map_rows, replace_rows, select_rows
from grasp_agent.core.types import Budget, Plan, Problem, Status, WorldModel
from grasp_agent.planning.checks import a_budget, check_problem, check_search, keys_of
from grasp_agent.planning.combine.multi_start import MultiStart, Search
from grasp_agent.planning.rollout import frozen, select_problem
from grasp_agent.planning.solvers.solver import AnySolver, Solver


@dataclass(frozen=True)
class Progress:
    """Where planning is.

    Attributes:
        iteration: iterations so far.
        search: the planner's state for all B problems.
        cost: best true rollout cost known so far, [B].
        converged: rows that are no longer improved because their cost stopped falling, [B].
    """

    iteration: int
    search: Search
    cost: Tensor
    converged: Tensor


def as_planner(planner: MultiStart | AnySolver) -> MultiStart:
    """A bare solver as a planner: one plan, from zero actions.

    Raises:
        TypeError: neither a planner nor a solver.
    """
    if isinstance(planner, MultiStart):
        return planner
    if isinstance(planner, Solver):
        return MultiStart(planner, restarts=1, candidates=0)
    raise TypeError(f"planner: expected a planner such as GRASP() or a solver such as CEM(), got {shown(planner)}")


def begin(planner: MultiStart | AnySolver, problem: Problem, seed: int | Tensor = 0) -> Search:
    """What a planner knows before its first iteration.

    Args:
        planner: who plans.
        problem: B problems.
        seed: one for all rows, which then differ from each other, or one random key per row, [B].

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the problem's parts do not fit together, or the action bounds are not finite.
    """
    check_problem(problem)
    planner, keys = as_planner(planner), keys_of(seed, problem)
    with _planning(problem.model):
        return planner.begin(_ordinary_problem(problem), keys)


def shift(planner: MultiStart | AnySolver, problem: Problem, search: Search, steps: int) -> Search:
    """Warm start: what a planner knows when the problem begins `steps` environment steps after that of `search`.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: problem, planner and search do not fit together, or a negative number of steps.
    """
    check_problem(problem)
    planner = as_planner(planner)
    check_search(planner, problem, search)
    steps = min(whole_number("steps", steps, 0), problem.horizon * problem.model.action_block)
    with _planning(problem.model):
        return planner.shift(_ordinary_problem(problem), map_rows(_ordinary, search), steps)


def solve(
    planner: MultiStart | AnySolver,
    problem: Problem,
    budget: Budget | None = None,
    *,
    seed: int | Tensor = 0,
    search: Search | None = None,
) -> tuple[Plan, Search]:
    """Plan until the budget ends.

    Works under the caller's `torch.no_grad()` and `torch.inference_mode()`; the model's parameters take no gradients.

    Args:
        planner: who plans, e.g. `GRASP()`; a bare solver such as `CEM()` improves one plan.
        problem: B problems.
        budget: when to stop; None means as many iterations as an agent spends on a decision.
        seed: as for `begin`; used if there is no `search`.
        search: where to go on, as `begin`, `shift` or an earlier call returned it.

    Returns:
        The plan, and what the planner knows now.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: problem, planner and search do not fit together, or the action bounds are not finite.
    """
    start = time.perf_counter()
    planner = as_planner(planner)
    budget = Budget(iterations=planner.decision_iterations) if budget is None else a_budget(budget)
    trace = []
    for progress in iterate(planner, problem, budget, seed=seed, search=search, started=start):
        trace.append(progress.cost)
    plan, search = finish(planner, problem, progress.search)
    trace.append(search.cost)
    status = torch.where(progress.converged, int(Status.CONVERGED), int(Status.RUNNING))
    status = torch.where(plan.cost.isfinite(), status, int(Status.NON_FINITE))
    seconds = time.perf_counter() - start
    table = torch.stack(trace, dim=1)
    return replace(plan, status=status, cost_trace=table, iterations=progress.iteration, seconds=seconds), search


def finish(planner: MultiStart | AnySolver, problem: Problem, search: Search) -> tuple[Plan, Search]:
    """Evaluate the plans that the solver stands at -> the plan to return, and what is known with them.

    The given search is left as it is, so planning can go on from it as if nobody had asked.
    """
    planner, problem = as_planner(planner), _ordinary_problem(problem)
    with _planning(problem.model):
        if int(search.iteration.max()):
            search = _in_groups(planner.evaluate, problem, search)
        return planner.finish(problem, search), search


def iterate(
    planner: MultiStart | AnySolver,
    problem: Problem,
    budget: Budget,
    *,
    seed: int | Tensor = 0,
    search: Search | None = None,
    started: float | None = None,
) -> Iterator[Progress]:
    """Yield what is known before the first iteration and after each one; arguments as for `solve`.

    Plans that a solver has not rolled out yet are not in what is yielded: `finish` adds them. A wall-clock limit,
    counted from `started`, is kept by stopping when another iteration as slow as the slowest so far, a last evaluation
    and the choice of the plan would not fit any more. Rows that have converged leave the batch, so that neighbours do
    not prolong their planning.
    """
    started = time.perf_counter() if started is None else started
    planner = as_planner(planner)
    check_problem(problem)
    whole = problem = _ordinary_problem(problem)
    a_budget(budget)
    if search is None:
        search = begin(planner, problem, seed)
    else:
        check_search(planner, problem, search)
        search = map_rows(_ordinary, search)
    clock = _Clock(budget.seconds, started)
    if budget.seconds is not None:
        with clock.finishing(), _planning(problem.model):
            clock.wait_for(planner.finish(problem, _in_groups(planner.evaluate, problem, search)).cost)

    everything, rows = search, torch.arange(problem.batch, device=problem.goal.device)  # rows still being improved
    reference, stale = search.cost, torch.zeros_like(rows)
    converged = torch.zeros_like(rows, dtype=torch.bool)
    yield Progress(0, everything, everything.cost, converged)
    for iteration in range(1, budget.iterations + 1):
        if not len(rows) or clock.over():
            return
        with clock.iterating(), _planning(problem.model):
            search = _in_groups(planner.step, problem, search)
            everything = search if len(rows) == whole.batch else replace_rows(everything, rows, search)
            clock.wait_for(search.kept.cost)
        if budget.patience is not None:
            progress = search.cost < reference * (1 - budget.tolerance)
            reference = torch.where(progress, search.cost, reference)
            stale = torch.where(progress, 0, stale + 1)
            going = stale < budget.patience
            if not bool(going.all()):
                with _planning(problem.model):
                    problem, search = select_problem(problem, going), select_rows(search, going)
                converged = converged.index_fill(0, rows[~going], True)
                rows, reference, stale = rows[going], reference[going], stale[going]
        yield Progress(iteration, everything, everything.cost, converged)


def _in_groups(fn: Callable[[Problem, Search], Search], problem: Problem, search: Search) -> Search:
    """Apply `fn` to rows that have had equally many iterations together: what is launched next depends on it."""
    counts = search.iteration.unique()
    if len(counts) == 1:
        return fn(problem, search)
    for count in counts:
        rows = (search.iteration == count).nonzero().squeeze(1).to(problem.goal.device)
        search = replace_rows(search, rows, fn(select_problem(problem, rows), select_rows(search, rows)))
    return search


class _Clock:
    """Keeps a wall-clock limit."""

    def __init__(self, seconds: float | None, started: float) -> None:
        self.seconds, self.started = seconds, started
        self.end = self.slowest = 0.0

    def over(self) -> bool:
        """Whether another iteration, an evaluation and the choice of the plan would end after the limit."""
        if self.seconds is None:
            return False
        return time.perf_counter() + self.slowest + self.end > self.started + self.seconds

    @contextmanager
    def finishing(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.end = self.slowest = time.perf_counter() - began

    @contextmanager
    def iterating(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.slowest = max(self.slowest, time.perf_counter() - began)

    def wait_for(self, cost: Tensor) -> None:
        """Where the clock counts, wait for a device that runs behind by reading a number back."""
        if self.seconds is not None:
            cost.sum().item()


@contextmanager
def _planning(model: WorldModel) -> Iterator[None]:
    """What planners need, whatever the caller's mode: gradients, but none for the model's parameters."""
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        yield


def _ordinary(x: Tensor) -> Tensor:
    """Free of the caller's graph, and able to take part in one: inference tensors cannot."""
    with torch.inference_mode(False):
        return x.detach().clone() if x.is_inference() else x.detach()


def _ordinary_problem(problem: Problem) -> Problem:
    return replace(
        problem,
        states=_ordinary(problem.states),
        past_actions=_ordinary(problem.past_actions),
        goal=_ordinary(problem.goal),
        horizon=int(problem.horizon),  # NumPy's small integers overflow
        low=_ordinary(problem.low),
        high=_ordinary(problem.high),
    )
