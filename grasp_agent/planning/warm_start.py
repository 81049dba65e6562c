"""Sequences of actions and states along a plan: random ones, and moving them when time moves on.

Time moves by single environment steps while a plan is made of blocks of k of them, so a shift unrolls the
blocks into one flat sequence, moves that, and cuts it into blocks again; states, which exist only every k
steps, are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from grasp_agent.core.rng import normal, split
from grasp_agent.core.rows import repeat_rows, take
from grasp_agent.core.types import Problem, Proposing, proposes
from grasp_agent.planning.rollout import (
    environment_units,
    frozen,
    normalised_units,
    problem_from,
    rollout,
    rollout_cost,
    true_cost,
    zero_plan,
)
from grasp_agent.planning.solve import Best


def smooth_noise(problem: Problem, keys: Tensor, count: int, correlation: float) -> Tensor:
    """Gaussian action sequences of unit variance, [B, count, T, A].

    A number of the action correlates with itself i environment steps later by correlation^i (a stationary
    AR(1) process): white noise mostly cancels itself out, a sequence that keeps its direction for a while
    gets somewhere.
    """
    k, dim = problem.model.action_block, problem.model.action_dim
    steps = problem.horizon * k
    white = normal(keys, (count, steps, dim), problem.goal.dtype)
    if correlation == 0:
        return white.view(problem.batch, count, problem.horizon, k * dim)
    lag = torch.arange(steps, device=white.device)
    lag = (lag[:, None] - lag[None, :]).to(white.dtype)
    memory = torch.pow(correlation, lag).tril()
    memory[:, 1:] *= (1 - correlation**2) ** 0.5  # but the first number has full variance: stationary at once
    return (memory @ white).view(problem.batch, count, problem.horizon, k * dim)


def initial_actions(
    problem: Problem,
    keys: Tensor,
    restarts: int,
    scale: float,
    correlation: float,
    screen: int = 1,
    start: Tensor | None = None,
) -> Tensor:
    """Normalised plans [B, restarts, T, A] to begin from, `start` [B, T, A] the first of them if it is given.

    They are what the model proposes or, where it makes no proposals, zero actions and smooth random plans of deviation
    `scale`; beside a given start, half of them are disturbed copies of it.

    Each drawn plan is the best of `screen` drawn for it, by true rollout cost: a plan that meets nothing has no
    gradient towards anything, and looking at many is cheap where one batched rollout scores them all. With `screen` 0
    neither the model's proposals nor its judgement are asked for.
    """
    proposing, screen = screen > 0 and proposes(problem.model), max(screen, 1)
    if start is None and proposing:
        return _screened(problem, proposed_actions(problem, split(keys, 1), restarts * screen), screen)
    first = (zero_plan(problem) if start is None else start).unsqueeze(1)
    if restarts == 1:
        return first
    proposed = restarts // 2 if proposing else 0
    drawn = first + scale * smooth_noise(problem, keys, (restarts - 1 - proposed) * screen, correlation)
    if proposed:
        drawn = torch.cat([proposed_actions(problem, split(keys, 1), proposed * screen), drawn], dim=1)
    return torch.cat([first, _screened(problem, drawn.clamp(-1, 1), screen)], dim=1)


def _screened(problem: Problem, u: Tensor, screen: int) -> Tensor:
    """The cheapest of each `screen` plans in a row."""
    return u if screen == 1 else take(u, cheapest_of_each(_judged(problem, u)[0], screen))


def starting_plan(problem: Problem, keys: Tensor, screen: int, scale: float, correlation: float) -> Tensor:
    """For planners that keep one plan: the cheapest of the zero plan and `screen` drawn ones, [B, T, A].

    The drawn ones are the model's proposals or, where it makes none, smooth random plans of deviation `scale`.
    """
    first = zero_plan(problem).unsqueeze(1)
    if screen == 0:
        return first[:, 0]
    if proposes(problem.model):
        drawn = proposed_actions(problem, keys, screen)
    else:
        drawn = (first + scale * smooth_noise(problem, keys, screen, correlation)).clamp_(-1, 1)
    return _cheapest(problem, torch.cat([first, drawn], dim=1))


def shifted_plan(
    problem: Problem, best: Best, fallback: Tensor, n: int, keys: Tensor, screen: int
) -> tuple[Tensor, Best]:
    """For planners that keep one plan: a warm start.

    Returns:
        The cheapest of the shifted best plan and, where the model makes them, `screen` proposals [B, T, A]; and the
        better of that and of doing nothing.
    """
    tried = torch.cat([zero_plan(problem).unsqueeze(1), shift_best(problem, best, fallback, n)], dim=1)
    if screen and proposes(problem.model):
        tried = torch.cat([tried, proposed_actions(problem, keys, screen)], dim=1)
    cost, states = _judged(problem, tried)
    index = 1 + cost[:, 1:].argmin(dim=1, keepdim=True)
    u = take(tried, index)
    return u[:, 0], _nothing(tried, states, cost).update(u, take(states, index), take(cost, index))


def _nothing(tried: Tensor, states: Tensor, cost: Tensor) -> Best:
    """The first of the plans tried."""
    return Best(tried[:, 0], states[:, 0], cost[:, 0], torch.full_like(cost[:, 0], -1, dtype=torch.int64))


def proposed_actions(problem: Problem, keys: Tensor, count: int) -> Tensor:
    """Plans that the model proposes, normalised, [B, count, T, A]."""
    if count == 0:
        return zero_plan(problem).unsqueeze(1)[:, :0]
    model = cast(Proposing, problem.model)
    steps = problem.horizon * problem.model.action_block
    noise = normal(keys, (count, steps, problem.model.action_dim), problem.goal.dtype)
    with torch.no_grad(), frozen(problem.model):
        plans = model.propose(problem.states, problem.past_actions, problem.goal, noise)
    return normalised_units(problem, plans.reshape(problem.batch, count, problem.horizon, -1))


@torch.no_grad()
def branched(
    problem: Problem, keys: Tensor, u: Tensor, states: Tensor, t: int, count: int, scale: float, correlation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Plans that follow u [B, R, T, A] for t blocks and then go on otherwise.

    How, the model proposes, asked from where the plan has led by then (`states` [B, R, T + 1, *S], its rollout); where
    it makes no proposals, the rest is disturbed by smooth noise of deviation `scale`. Only the rest is rolled out.

    Returns:
        Plans [B, R * count, T, A], their rollouts [B, R * count, T + 1, *S] and true costs [B, R * count].
    """
    b, r = u.shape[:2]
    rest = problem_from(problem, u, states, t)
    keys = split(repeat_rows(keys, r), torch.arange(r, device=keys.device).repeat(b))
    if proposes(problem.model):
        tails = proposed_actions(rest, keys, count)
    else:
        tails = u.flatten(0, 1)[:, None, t:] + scale * smooth_noise(rest, keys, count, correlation)
    tails = tails.clamp(-1, 1)
    led = rollout(rest, environment_units(rest, tails))[:, :, 1:]

    def joined(head: Tensor, tail: Tensor) -> Tensor:
        heads = head.unsqueeze(2).expand(-1, -1, count, *head.shape[2:])
        return torch.cat([heads, tail.unflatten(0, (b, r))], dim=3).flatten(1, 2)

    plans, paths = joined(u[:, :, :t], tails), joined(states[:, :, : t + 1], led)
    return plans, paths, rollout_cost(problem, plans, paths)


def _judged(problem: Problem, u: Tensor) -> tuple[Tensor, Tensor]:
    """True rollout costs of plans u [B, M, T, A] and where they lead, without gradients."""
    with torch.no_grad(), frozen(problem.model):
        return true_cost(problem, u)


def _cheapest(problem: Problem, u: Tensor) -> Tensor:
    """The cheapest by true rollout cost of plans u [B, M, T, A], [B, T, A]."""
    return take(u, _judged(problem, u)[0].argmin(dim=1, keepdim=True))[:, 0]


def cheapest_of_each(cost: Tensor, count: int) -> Tensor:
    """Which is the cheapest of each `count` plans in a row: costs [B, M * count] -> indices [B, M]."""
    winner: Tensor = cost.unflatten(1, (-1, count)).argmin(dim=2)
    return winner + count * torch.arange(winner.shape[1], device=cost.device)


def shift_actions(problem: Problem, u: Tensor, n: int) -> Tensor:
    """Drop the first `n` environment steps of plans u [B, R, T, A] and fill the end with zero actions."""
    k, dim = problem.model.action_block, problem.model.action_dim
    if u.shape[2] != problem.horizon:
        raise ValueError(f"shift: expected the horizon the state was made for, {u.shape[2]}, got {problem.horizon}")
    if n < 0:
        raise ValueError(f"shift: expected 0 or more environment steps, got {n}")
    tail = zero_plan(problem).unsqueeze(1).expand_as(u)
    flat = torch.cat([u, tail], dim=2).view(*u.shape[:2], 2 * problem.horizon * k, dim)
    n = min(n, problem.horizon * k)
    return flat[:, :, n : n + problem.horizon * k].reshape(u.shape)


def shift_states(problem: Problem, states: Tensor, n: int) -> Tensor:
    """Move virtual states s_1..s_{T-1} [B, R, T - 1, *S] by `n` environment steps, on to the goal."""
    steps = problem.horizon
    if steps == 1:
        return states
    goal = problem.goal[:, None, None].expand(-1, states.shape[1], 1, *states.shape[3:])
    path = torch.cat([states, goal], dim=2)
    blocks, rest = divmod(n, problem.model.action_block)
    index = torch.arange(steps - 1, device=states.device) + blocks
    before = path[:, :, index.clamp(max=steps - 1)]
    if rest == 0:
        return before
    return torch.lerp(before, path[:, :, (index + 1).clamp(max=steps - 1)], rest / problem.model.action_block)


def ramp_to_goal(problem: Problem, paths: Tensor, fraction: float) -> Tensor:
    """Virtual states [B, R, T - 1, *S] along `paths` [B, R, T + 1, *S], bent towards the goal.

    s_t = path_t + fraction * (t / T) * (g - path_T), t = 1..T-1: the gap at the end is spread evenly over the
    steps. At fraction 1 a path that stands still becomes the straight line to the goal.
    """
    t = torch.arange(1, problem.horizon, device=paths.device, dtype=paths.dtype) / problem.horizon
    gap = (problem.goal.unsqueeze(1) - paths[:, :, -1]).unsqueeze(2)
    return paths[:, :, 1:-1] + fraction * t.view(-1, *[1] * (paths.ndim - 3)) * gap


def shift_best(problem: Problem, best: Best, fallback: Tensor, n: int) -> Tensor:
    """The best plan `n` environment steps on, [B, 1, T, A]; of rows never scored, `fallback` [B, T, A]."""
    scored = best.cost.isfinite()[:, None, None]
    return shift_actions(problem, torch.where(scored, best.actions, fallback).unsqueeze(1), n)


@dataclass(frozen=True)
class WarmStart:
    """Plans to go on from, rolled out already.

    Attributes:
        actions: normalised, [B, R, T, A].
        states: their rollouts, [B, R, T + 1, *S].
        cost: their true rollout costs, [B, R].
        best: the best of them and of doing nothing.
        came_from: which of the restarts before follow restart 0, [B, R - 1 - refresh].
    """

    actions: Tensor
    states: Tensor
    cost: Tensor
    best: Best
    came_from: Tensor


def shift_restarts(
    problem: Problem,
    best: Best,
    u: Tensor,
    n: int,
    keys: Tensor,
    refresh: int,
    scale: float,
    correlation: float,
    screen: int = 1,
) -> WarmStart:
    """Restarts for a warm start.

    Restart 0 becomes the shifted best plan, then come the cheapest of the other restarts' own plans, shifted; the
    last `refresh` (but never restart 0) begin anew, half as the best plan disturbed (refine what works) and half as
    the model's proposals or, where it makes none, random plans (look elsewhere); each is the best of `screen` drawn.
    """
    b, r = u.shape[:2]
    nothing = zero_plan(problem).unsqueeze(1)
    first = shift_best(problem, best, u[:, 0], n)
    others = shift_actions(problem, u[:, 1:], n)
    refresh = min(refresh, r - 1)
    proposing, screen = screen > 0 and proposes(problem.model), max(screen, 1)
    elsewhere = refresh // 2
    nearby = first + scale * smooth_noise(problem, split(keys, 0), (refresh - elsewhere) * screen, correlation)
    if proposing:
        away = proposed_actions(problem, split(keys, 1), elsewhere * screen)
    else:
        away = nothing + scale * smooth_noise(problem, split(keys, 1), elsewhere * screen, correlation)
    fresh = torch.cat([nearby, away], dim=1).clamp(-1, 1)

    tried = torch.cat([nothing, first, others, fresh], dim=1)
    cost, states = _judged(problem, tried)
    kept = torch.arange(r - 1, device=u.device).expand(b, -1)
    if refresh:
        kept = cost[:, 2 : r + 1].argsort(dim=1, stable=True)[:, : r - 1 - refresh]
    index = torch.cat([kept.new_ones(b, 1), 2 + kept, r + 1 + cheapest_of_each(cost[:, r + 1 :], screen)], dim=1)
    plans, paths, costs = take(tried, index), take(states, index), take(cost, index)
    return WarmStart(plans, paths, costs, _nothing(tried, states, cost).update(plans, paths, costs), kept + 1)
