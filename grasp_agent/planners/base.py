"""What every planner shares: the protocol, the one solve loop, the serial rollout, states made of rows.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from grasp_agent.types import Budget, Plan, Problem, Status, WorldModel


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
Tree = TypeVar("Tree")


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


# ----- rollouts ---------------------------------------------------------------------------------------------


def rollout(problem: Problem, actions: Tensor) -> Tensor:
    """Predict serially, in T model calls: actions [B, T, A] or [B, R, T, A] -> states [..., T + 1, *S].

    Actions are in environment units. The first state is the present one. Every step reads the model's whole
    history window: real frames and blocks first, predicted and planned ones as they come.
    """
    lead, steps = actions.shape[:-2], actions.shape[-2]
    per_row = math.prod(lead[1:])
    h = problem.model.history
    windows = action_windows(problem, actions.reshape(problem.batch, per_row, steps, problem.action_size))
    frames = list(repeat_rows(problem.states, per_row).unbind(1))
    for window in windows.flatten(0, 1).unbind(1):
        frames.append(problem.model.predict(torch.stack(frames[-h:], dim=1), window))
    return torch.stack(frames[h - 1 :], dim=1).view(*lead, steps + 1, *problem.states.shape[2:])


def action_windows(problem: Problem, actions: Tensor) -> Tensor:
    """The blocks the model reads at every step: actions [B, R, T, A] -> [B, R, T, h, A], oldest first."""
    restarts = actions.shape[1]
    past = problem.past_actions.unsqueeze(1).expand(-1, restarts, -1, -1)
    return torch.cat([past, actions], dim=2).unfold(2, problem.model.history, 1).movedim(-1, 3)


def one_step(problem: Problem, u: Tensor, s: Tensor) -> Tensor:
    """F(s_t, a_t) for all t = 0..T-1 in one model call, s_0 being the present: no step waits for another.

    Args:
        problem: B problems.
        u: normalised plans, [B, R, T, A].
        s: s_1..s_{T-1}, [B, R, T - 1, *S].

    Returns:
        Predictions of s_1..s_T, [B, R, T, *S], differentiable in u and s.
    """
    return problem.model.predict(*step_windows(problem, u, s)).view(*u.shape[:3], *s.shape[3:])


def step_windows(problem: Problem, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """What F reads at each of these steps: states [B * R * T, h, *S] and blocks [B * R * T, h, A], oldest first."""
    past = problem.states.unsqueeze(1).expand(-1, u.shape[1], *problem.states.shape[1:])
    states = torch.cat([past, s], dim=2).unfold(2, problem.model.history, 1).movedim(-1, 3)
    return states.flatten(0, 2), action_windows(problem, environment_units(problem, u)).flatten(0, 2)


def one_step_window(problem: Problem, u: Tensor, s: Tensor, begin: Tensor, width: int) -> Tensor:
    """As `one_step`, for t = begin..begin + width - 1 alone (`begin` [B]): predictions [B, R, width, *S]."""
    h, r = problem.model.history, u.shape[1]
    past = problem.states.unsqueeze(1).expand(-1, r, *problem.states.shape[1:])
    done = problem.past_actions.unsqueeze(1).expand(-1, r, -1, -1)
    frames = take_window(torch.cat([past, s], dim=2), begin, width + h - 1).flatten(0, 1)
    blocks = take_window(torch.cat([done, environment_units(problem, u)], dim=2), begin, width + h - 1).flatten(0, 1)
    goal = repeat_rows(problem.goal, r)
    part = replace(problem, states=frames[:, :h], past_actions=blocks[:, : h - 1], goal=goal, horizon=width)
    ahead = normalised_units(problem, blocks[:, h - 1 :]).unsqueeze(1)
    predicted: Tensor = one_step(part, ahead, frames[:, h:].unsqueeze(1)).unflatten(0, (-1, r)).squeeze(2)
    return predicted


def take_window(x: Tensor, begin: Tensor, width: int) -> Tensor:
    """The entries begin..begin + width - 1 along time: [B, R, T, ...], begin [B] -> [B, R, width, ...]."""
    index = begin.unsqueeze(1) + torch.arange(width, device=x.device)
    taken: Tensor = torch.take_along_dim(x, index.view(len(x), 1, width, *[1] * (x.ndim - 3)), dim=2)
    return taken


def repeat_problem(problem: Problem, times: int) -> Problem:
    """Every problem `times` times in a row: a problem of B * times rows."""
    return replace(
        problem,
        states=repeat_rows(problem.states, times),
        past_actions=repeat_rows(problem.past_actions, times),
        goal=repeat_rows(problem.goal, times),
    )


def problem_from(problem: Problem, u: Tensor, states: Tensor, t: int) -> Problem:
    """What is left of the problem once the first t blocks of each plan are executed.

    Args:
        problem: B problems.
        u: normalised plans, [B, R, T, A].
        states: where they lead, s_0..s_t at least, [B, R, T', *S].
        t: 0 to T - 1.

    Returns:
        A problem of B * R rows and horizon T - t.
    """
    h, r = problem.model.history, u.shape[1]
    past = problem.states[:, :-1].unsqueeze(1)
    frames = torch.cat([past.expand(-1, r, *past.shape[2:]), states], dim=2)[:, :, t : t + h]
    done = problem.past_actions.unsqueeze(1).expand(-1, r, -1, -1)
    blocks = torch.cat([done, environment_units(problem, u)], dim=2)[:, :, t : t + h - 1]
    return replace(
        problem,
        states=frames.flatten(0, 1),
        past_actions=blocks.flatten(0, 1),
        goal=repeat_rows(problem.goal, r),
        horizon=problem.horizon - t,
    )


def true_cost(problem: Problem, u: Tensor) -> tuple[Tensor, Tensor]:
    """Roll out normalised plans u [B, R, T, A]: cost [B, R] (infinite if not finite) and states."""
    states = rollout(problem, environment_units(problem, u))
    return rollout_cost(problem, u, states), states


def rollout_cost(problem: Problem, u: Tensor, states: Tensor) -> Tensor:
    """Cost [B, R] (infinite if not finite) of normalised plans u [B, R, T, A] with rollouts [B, R, T + 1, *S]."""
    goal = repeat_rows(problem.goal, u.shape[1])
    actions = environment_units(problem, u).flatten(0, 1)
    cost = problem.objective.trajectory_cost(states[:, :, 1:].flatten(0, 1), actions, goal)
    return cost.nan_to_num(math.inf, math.inf, math.inf).view(-1, u.shape[1])


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


# ----- units ------------------------------------------------------------------------------------------------


def environment_units(problem: Problem, u: Tensor) -> Tensor:
    """Normalised actions -> environment units, [..., A]."""
    return (problem.high + problem.low) / 2 + (problem.high - problem.low) / 2 * u


def normalised_units(problem: Problem, actions: Tensor) -> Tensor:
    """Environment units -> normalised actions in [-1, 1], [..., A]; a number that cannot vary becomes 0."""
    half = (problem.high - problem.low) / 2
    u = (actions - (problem.high + problem.low) / 2) / torch.where(half > 0, half, 1.0)
    return u.clamp(-1, 1)


def zero_plan(problem: Problem) -> Tensor:
    """The plan of zero actions, clipped to the bounds, normalised, [B, T, A]."""
    zero = normalised_units(problem, torch.zeros_like(problem.low))
    return zero.expand(problem.batch, problem.horizon, -1).contiguous()


def stand_still(problem: Problem) -> Tensor:
    """The present state over and over, [B, T + 1, *S]."""
    return problem.states[:, -1:].expand(-1, problem.horizon + 1, *problem.states.shape[2:]).contiguous()


def unscored(problem: Problem, u: Tensor) -> Best:
    """A `Best` that waits to be scored: plan u [B, T, A], infinite cost."""
    cost = u.new_full((problem.batch,), math.inf)
    return Best(u, stand_still(problem), cost, torch.full_like(cost, -1, dtype=torch.int64))


# ----- rows -------------------------------------------------------------------------------------------------


def map_rows(fn: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """Apply `fn` to the corresponding tensors of equally built states (tensors or dataclasses of them)."""
    if isinstance(tree, Tensor):
        return fn(tree, *others)  # type: ignore[return-value]
    if not is_dataclass(tree) or isinstance(tree, type):
        raise TypeError(f"planner state: expected tensors and dataclasses of them, got {type(tree).__name__}")
    parts: dict[str, Any] = {
        f.name: map_rows(fn, getattr(tree, f.name), *(getattr(other, f.name) for other in others)) for f in fields(tree)
    }
    return type(tree)(**parts)


def select_rows(state: Tree, rows: Tensor) -> Tree:
    """The rows of a state that `rows` names (indices, or a mask [B])."""
    return map_rows(lambda x: x[rows], state)


def replace_rows(state: Tree, rows: Tensor, fresh: Tree) -> Tree:
    """A state with the rows named by `rows` taken from `fresh`, which has just these rows."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        out = old.clone()
        out[rows] = new
        return out

    return map_rows(put, state, fresh)


def where_rows(mask: Tensor, yes: Tree, no: Tree) -> Tree:
    """Row by row, `yes` where mask [B] holds, else `no`."""
    return map_rows(lambda a, b: torch.where(_like(mask, a), a, b), yes, no)


def select_problem(problem: Problem, rows: Tensor) -> Problem:
    """The problems that `rows` names (indices, or a mask [B])."""
    states, past = problem.states[rows], problem.past_actions[rows]
    return replace(problem, states=states, past_actions=past, goal=problem.goal[rows])


def take(x: Tensor, index: Tensor) -> Tensor:
    """Of M candidates per row those that `index` [B, N] names: [B, M, ...] -> [B, N, ...]."""
    taken: Tensor = torch.take_along_dim(x, index.view(*index.shape, *[1] * (x.ndim - 2)), dim=1)
    return taken


def repeat_rows(x: Tensor, times: int) -> Tensor:
    """Every row `times` times in a row: [B, ...] -> [B * times, ...]."""
    return x.unsqueeze(1).expand(-1, times, *x.shape[1:]).flatten(0, 1)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (x.ndim - 1))


# ----- guards -----------------------------------------------------------------------------------------------


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


@contextmanager
def frozen(model: WorldModel) -> Iterator[None]:
    """Keep a module's parameters out of the graph meanwhile: planning must not store gradients of weights."""
    parameters = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


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
