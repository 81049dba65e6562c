"""What plans lead to: the serial rollout and its cost, all steps at once, and a problem's parts and units.

Planners work on normalised actions u in [-1, 1]; an action in environment units is middle + half_range * u.
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


def zero_plan(problem: Problem) -> Tensor:
    """The plan of zero actions, clipped to the bounds, normalised, [B, T, A]."""
    zero = normalised_units(problem, torch.zeros_like(problem.low))
    return zero.expand(problem.batch, problem.horizon, -1).contiguous()


def stand_still(problem: Problem) -> Tensor:
    """The present state over and over, [B, T + 1, *S]."""
    return problem.states[:, -1:].expand(-1, problem.horizon + 1, *problem.states.shape[2:]).contiguous()


# ----- problems ---------------------------------------------------------------------------------------------


def repeat_problem(problem: Problem, times: int) -> Problem:
    """Every problem `times` times in a row: a problem of B * times rows."""
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
