"""What every planner shares: the protocol, the one solve loop, and the best plan so far.

A planner is a frozen dataclass of hyperparameters. What it knows about B problems is an explicit state, a
frozen dataclass all of whose leaves are tensors [B, ...] (optimiser moments and random keys included), so
rows can be picked, dropped and replaced like the rows of a table. `solve` is the only loop there is: it
scores the starting plans by their true rollout cost, iterates until the budget ends, scores what came out,
and returns the best plan ever scored.

Planners work on normalised actions u in [-1, 1]; an action in environment units is middle + half_range * u.
Step sizes and noise scales therefore have no unit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from grasp_agent.core.rows import map_rows, replace_rows, select_rows, where_rows
from grasp_agent.core.types import Budget, Plan, Problem, Status
from grasp_agent.planning.rollout import environment_units, frozen, select_problem, stand_still, true_cost


@dataclass(frozen=True)
class Best:
    """The best plan scored so far, per row.

    Attributes:
        actions: normalised, [B, T, A].
        states: its true rollout, [B, T + 1, *S].
        cost: its true rollout cost, [B]; infinite as long as nothing finite was scored.
        candidate: which of the candidates scored together it was, [B]; -1 for the plan it began with.
    """

    actions: Tensor
    states: Tensor
    cost: Tensor
    candidate: Tensor

    def update(self, actions: Tensor, states: Tensor, cost: Tensor) -> Best:
        """Keep the better of this and M candidates: [B, M, T, A], [B, M, T + 1, *S], [B, M]."""
        lowest, index = cost.min(dim=1)
        better = lowest < self.cost
        rows = torch.arange(len(cost), device=cost.device)
        challenger = Best(actions[rows, index], states[rows, index], lowest, index)
        return where_rows(better, challenger, self)


class PlannerState(Protocol):
    """What the solve loop knows of a state: a frozen dataclass of [B, ...] tensors with a `best`."""

    @property
    def best(self) -> Best: ...


State = TypeVar("State", bound=PlannerState)


class Planner(Protocol[State]):
    """A planning algorithm; its fields are its hyperparameters."""

    @property
    def decision_iterations(self) -> int:
        """Iterations an agent spends on a decision when it is given no budget."""
        ...

    name: ClassVar[str]
    """What users call it."""

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> State:
        """The state before the first iteration.

        Args:
            problem: B problems.
            keys: one random seed per row, [B].
            start: plans to improve, normalised, [B, T, A]; None leaves the beginning to the planner.
        """
        ...

    def step(self, problem: Problem, state: State) -> State:
        """One iteration."""
        ...

    def evaluate(self, problem: Problem, state: State) -> State:
        """Score the iterates (and `best`, if it has no cost yet) by true rollout cost; keep the best."""
        ...

    def shift(self, problem: Problem, state: State, n: int) -> State:
        """Warm start: the state for a `problem` that begins `n` environment steps after that of `state`.

        If `best` has a cost, the beginning counts as scored.
        """
        ...

    def plan(self, problem: Problem, state: State) -> Plan:
        """The best plan scored so far."""
        ...


def solve(planner: Planner[State], problem: Problem, state: State, budget: Budget) -> tuple[Plan, State]:
    """Improve `state` until the budget ends -> the best plan by true rollout cost, and the state after it.

    A wall-clock limit is kept by stopping when another iteration as slow as the slowest so far, and the
    scoring at the end, would not fit any more; the starting plans are scored whatever the limit. Works under
    the caller's `torch.no_grad()` and `torch.inference_mode()`; the model's parameters take no gradients.

    Raises:
        ValueError: problem and state do not fit together, or the action bounds are not finite.
    """
    start = time.perf_counter()
    check_problem(problem)
    made_for, wanted = list(state.best.actions.shape), [problem.batch, problem.horizon, problem.action_size]
    if made_for != wanted:
        raise ValueError(f"state: expected one for plans [B, T, A] = {wanted}, got {made_for}; try init()")
    with torch.inference_mode(False), torch.enable_grad(), frozen(problem.model):
        whole = problem = _ordinary_problem(problem)
        state = map_rows(_ordinary, state)
        # begun with known costs, there is nothing to score; but a time limit must know how long scoring takes
        if budget.seconds is not None or not bool(state.best.cost.isfinite().all()):
            state = planner.evaluate(problem, state)
        scoring = slowest = _elapsed(start, state, budget)

        rows = torch.arange(problem.batch, device=problem.goal.device)  # those still being improved
        full, trace = state, [state.best.cost]
        reference, stale = state.best.cost, torch.zeros_like(rows)
        converged = torch.zeros_like(rows, dtype=torch.bool)
        iterations = 0
        while len(rows) and iterations < budget.iterations:
            began = time.perf_counter()
            if budget.seconds is not None and began + slowest + scoring > start + budget.seconds:
                break
            state = planner.step(problem, state)
            iterations += 1
            if len(rows) == whole.batch:
                trace.append(state.best.cost)
            else:
                trace.append(full.best.cost.index_copy(0, rows, state.best.cost))
            if budget.patience is not None:
                cost = state.best.cost
                progress = cost < reference * (1 - budget.tolerance)
                reference = torch.where(progress, cost, reference)
                stale = torch.where(progress, 0, stale + 1)
                going = stale < budget.patience
                if not bool(going.all()):  # the rest leave the batch: neighbours must not prolong their planning
                    full = replace_rows(full, rows, planner.evaluate(problem, state))
                    converged[rows[~going]] = True
                    rows, reference, stale = rows[going], reference[going], stale[going]
                    problem, state = select_problem(whole, rows), select_rows(full, rows)
            spent = _elapsed(began, state, budget)
            slowest = max(slowest, spent)
        if len(rows) and iterations:
            state = planner.evaluate(problem, state)
            full = state if len(rows) == whole.batch else replace_rows(full, rows, state)

        trace.append(full.best.cost)
        plan = planner.plan(whole, full)
    status = torch.where(converged, int(Status.CONVERGED), int(Status.RUNNING))
    status = torch.where(plan.cost.isfinite(), status, int(Status.NON_FINITE))
    trace_table = torch.stack(trace, dim=1)
    seconds = time.perf_counter() - start
    return replace(plan, status=status, cost_trace=trace_table, iterations=iterations, seconds=seconds), full


def _elapsed(since: float, state: PlannerState, budget: Budget) -> float:
    """Seconds spent; where the clock counts, reading a number back waits for a device that runs behind."""
    if budget.seconds is not None:
        state.best.cost.sum().item()
    return time.perf_counter() - since


def unscored(problem: Problem, u: Tensor) -> Best:
    """A `Best` that waits to be scored: plan u [B, T, A], infinite cost."""
    cost = u.new_full((problem.batch,), math.inf)
    return Best(u, stand_still(problem), cost, torch.full_like(cost, -1, dtype=torch.int64))


@torch.no_grad()
def score(problem: Problem, best: Best, u: Tensor) -> tuple[Best, Tensor, Tensor]:
    """Score u [B, R, T, A], and a `best` that has no cost yet.

    Returns:
        The best of them, the rollouts of u [B, R, T + 1, *S], and their costs [B, R].
    """
    cost, states = true_cost(problem, torch.cat([best.actions.unsqueeze(1), u], dim=1))
    begun = replace(best, states=states[:, 0], cost=cost[:, 0])
    best = where_rows(best.cost.isinf(), begun, best)
    return best.update(u, states[:, 1:], cost[:, 1:]), states[:, 1:], cost[:, 1:]


def make_plan(problem: Problem, best: Best, defects: Tensor | None = None, restarts: Tensor | None = None) -> Plan:
    """The plan held by `best`; `solve` fills in what it knows of status, trace, iterations and time."""
    cost = best.cost
    return Plan(
        actions=environment_units(problem, best.actions).clamp(problem.low, problem.high),
        states=best.states,
        cost=cost,
        status=torch.where(cost.isfinite(), int(Status.RUNNING), int(Status.NON_FINITE)),
        defects=cost.new_zeros(problem.batch, problem.horizon) if defects is None else defects,
        restarts=cost.unsqueeze(1) if restarts is None else restarts,
        cost_trace=cost.unsqueeze(1),
    )


def check_problem(problem: Problem) -> None:
    """Raise a ValueError that says what does not fit, before a model turns it into an obscure one."""
    h, block = problem.model.history, problem.model.action_dim * problem.model.action_block
    if problem.horizon < 1:
        raise ValueError(f"Problem.horizon: expected at least 1 model step, got {problem.horizon}")
    shape = tuple(problem.model.state_shape)
    expected = {
        "states": (problem.batch, h, *shape),
        "past_actions": (problem.batch, h - 1, block),
        "goal": (problem.batch, *shape),
        "low": (block,),
        "high": (block,),
    }
    for name, want in expected.items():
        got = tuple(getattr(problem, name).shape)
        if got != want:
            raise ValueError(
                f"Problem.{name}: expected shape {list(want)}, got {list(got)} "
                f"(history {h}, action_dim * action_block = {block}, latent shape {list(shape)})"
            )
    bounds = torch.stack([problem.low, problem.high])
    if not bool((bounds.isfinite() & (problem.low <= problem.high)).all()):
        raise ValueError(
            f"Problem.low, Problem.high: expected finite action bounds with low <= high, "
            f"got {problem.low.tolist()} and {problem.high.tolist()}; try an action space with finite bounds"
        )


def _ordinary(x: Tensor) -> Tensor:
    """Free of the caller's graph, and able to take part in one: inference tensors cannot."""
    return x.detach().clone() if x.is_inference() else x.detach()


def _ordinary_problem(problem: Problem) -> Problem:
    return replace(
        problem,
        states=_ordinary(problem.states),
        past_actions=_ordinary(problem.past_actions),
        goal=_ordinary(problem.goal),
        low=_ordinary(problem.low),
        high=_ordinary(problem.high),
    )
