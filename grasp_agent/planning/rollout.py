"""What plans lead to: the serial rollout and its cost, all steps at once, and the parts and units of a problem.

Planners work on normalised actions u in [-1, 1]; an action in environment units is middle + half_range * u. Step sizes
and noise scales therefore have no unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from grasp_agent.core.rows import repeat_rows
from grasp_agent.core.types import Problem, WorldModel


def rollout(problem: Problem, actions: Tensor) -> Tensor:
    """Predict serially, in T model calls: actions [B, T, A] or [B, M, T, A] -> states [..., T + 1, *S].

    Actions are in environment units. The first state is the present one. Every step reads the model's whole
    history window: real frames and blocks first, predicted and planned ones as they come.
    """
    lead, steps = actions.shape[:-2], actions.shape[-2]
    per_row = math.prod(lead[1:])
    h = problem.model.history
    many = repeat_problem(problem, per_row)
    windows = action_windows(many, actions.reshape(-1, steps, problem.action_size))
    frames = list(many.states.unbind(1))
    for window in windows.unbind(1):
        frames.append(problem.model.predict(torch.stack(frames[-h:], dim=1), window))
    return torch.stack(frames[h - 1 :], dim=1).view(*lead, steps + 1, *problem.states.shape[2:])


def action_windows(problem: Problem, actions: Tensor) -> Tensor:
    """The blocks the model reads at every step: actions [B, T, A] -> [B, T, h, A], oldest first."""
    return torch.cat([problem.past_actions, actions], dim=1).unfold(1, problem.model.history, 1).movedim(-1, 2)


def one_step(problem: Problem, u: Tensor, s: Tensor) -> Tensor:
    """F(s_t, a_t) for all t = 0..T-1 in one model call, s_0 being the present: no step waits for another.

    Args:
        problem: B problems.
        u: normalised plans, [B, T, A].
        s: s_1..s_{T-1}, [B, T - 1, *S].

    Returns:
        Predictions of s_1..s_T, [B, T, *S], differentiable in u and s.
    """
    return problem.model.predict(*step_windows(problem, u, s)).view(*u.shape[:2], *s.shape[2:])


def step_windows(problem: Problem, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """What F reads at each of these steps: states [B * T, h, *S] and blocks [B * T, h, A], oldest first."""
    states = torch.cat([problem.states, s], dim=1).unfold(1, problem.model.history, 1).movedim(-1, 2)
    return states.flatten(0, 1), action_windows(problem, environment_units(problem, u)).flatten(0, 1)


def part_of(problem: Problem, u: Tensor, s: Tensor, begin: int, width: int) -> tuple[Problem, Tensor, Tensor]:
    """The steps begin..begin + width - 1 of a plan [B, T, A] with states s_1..s_{T-1}: problem, actions and states."""
    h = problem.model.history
    frames = torch.cat([problem.states, s], dim=1)
    blocks = torch.cat([problem.past_actions, environment_units(problem, u)], dim=1)
    part = replace(
        problem,
        states=frames[:, begin : begin + h],
        past_actions=blocks[:, begin : begin + h - 1],
        horizon=width,
    )
    return part, u[:, begin : begin + width], s[:, begin : begin + width - 1]


def true_cost(problem: Problem, u: Tensor) -> tuple[Tensor, Tensor]:
    """Roll out normalised plans u [B, M, T, A]: cost [B, M] (infinite if not finite) and states [B, M, T + 1, *S]."""
    states = rollout(problem, environment_units(problem, u))
    return rollout_cost(problem, u, states), states


def rollout_cost(problem: Problem, u: Tensor, states: Tensor) -> Tensor:
    """Cost [B, M] (infinite if not finite) of normalised plans u [B, M, T, A] with rollouts [B, M, T + 1, *S]."""
    goal = repeat_rows(problem.goal, u.shape[1])
    actions = environment_units(problem, u).flatten(0, 1)
    cost = problem.objective.trajectory_cost(states[:, :, 1:].flatten(0, 1), actions, goal)
    return cost.nan_to_num(math.inf, math.inf, math.inf).view(-1, u.shape[1])


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


# ----- units ------------------------------------------------------------------------------------------------


def environment_units(problem: Problem, u: Tensor) -> Tensor:
    """Normalised actions -> environment units, [..., A]."""
    return (problem.high + problem.low) / 2 + (problem.high - problem.low) / 2 * u


def normalised_units(problem: Problem, actions: Tensor) -> Tensor:
    """Environment units -> normalised actions in [-1, 1], [..., A]; a number that cannot vary becomes 0."""
    half = (problem.high - problem.low) / 2
    u = (actions - (problem.high + problem.low) / 2) / torch.where(half > 0, half, 1.0)
    return u.clamp(-1, 1)


def latent_scale(problem: Problem) -> Tensor:
    """The unit in which planners measure latents: the root mean square of goal minus present, [B]."""
    gap = (problem.goal - problem.states[:, -1]).flatten(1)
    return gap.square().mean(1).sqrt().clamp(min=1e-6)


def per_row(x: Tensor, like: Tensor) -> Tensor:
    """Numbers [B], shaped so that they multiply `like` [B, ...] row by row."""
    return x.view(-1, *[1] * (like.ndim - 1))


def zero_plan(problem: Problem) -> Tensor:
    """The plan of zero actions, clipped to the bounds, normalised, [B, T, A]."""
    zero = normalised_units(problem, torch.zeros_like(problem.low))
    return zero.expand(problem.batch, problem.horizon, -1).contiguous()


# ----- problems ---------------------------------------------------------------------------------------------


def repeat_problem(problem: Problem, times: int) -> Problem:
    """Every problem `times` times in a row: a problem of B * times rows."""
    if times == 1:
        return problem
    return replace(
        problem,
        states=repeat_rows(problem.states, times),
        past_actions=repeat_rows(problem.past_actions, times),
        goal=repeat_rows(problem.goal, times),
    )


def select_problem(problem: Problem, rows: Tensor) -> Problem:
    """The problems that `rows` names (indices, or a mask [B])."""
    states, past = problem.states[rows], problem.past_actions[rows]
    return replace(problem, states=states, past_actions=past, goal=problem.goal[rows])


def problem_from(problem: Problem, u: Tensor, states: Tensor, t: int) -> Problem:
    """What is left of the problem once the first t blocks of each plan are executed.

    Args:
        problem: B problems.
        u: normalised plans, [B, M, T, A].
        states: where they lead, s_0..s_t at least, [B, M, T', *S].
        t: 0 to T - 1.

    Returns:
        A problem of B * M rows and horizon T - t.
    """
    h, many = problem.model.history, repeat_problem(problem, u.shape[1])
    frames = torch.cat([many.states[:, :-1], states.flatten(0, 1)], dim=1)[:, t : t + h]
    blocks = torch.cat([many.past_actions, environment_units(problem, u).flatten(0, 1)], dim=1)[:, t : t + h - 1]
    return replace(many, states=frames, past_actions=blocks, horizon=problem.horizon - t)
