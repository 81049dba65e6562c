"""Virtual states: where they begin, and how they move on when time does.

Time moves by single environment steps while a plan is made of blocks of k of them. States exist only every k steps, so
a shift by part of a block interpolates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_agent.core.capabilities import needs_goal
from grasp_agent.core.types import Problem


def with_goal(problem: Problem, s: Tensor) -> Tensor:
    """Virtual states s_1..s_{T-1} [B, T - 1, *S] and the goal behind them, s_1..s_T, [B, T, *S].

    Raises:
        ValueError: plans are judged by something else than a goal.
    """
    if not needs_goal(problem.objective):
        raise ValueError(
            "virtual states: expected an objective with a goal, to which the last of them is pulled, got"
            f" {type(problem.objective).__name__}; try GRASP.for_rewards()"
        )
    return torch.cat([s, problem.goal.unsqueeze(1)], dim=1)


def straight_line(problem: Problem) -> Tensor:
    """s_t = s_0 + (t / T) (g - s_0) for t = 1..T-1, [B, T - 1, *S]."""
    present = problem.states[:, -1:].expand(-1, problem.horizon + 1, *problem.states.shape[2:])
    return towards_goal(problem, present)


def towards_goal(problem: Problem, path: Tensor) -> Tensor:
    """A path [B, T + 1, *S] bent so that it would end in the goal: s_1..s_{T-1}, [B, T - 1, *S].

    s_t = path_t + (t / T) (g - path_T): the gap at the end is spread evenly over the steps.
    """
    t = torch.arange(1, problem.horizon, device=path.device, dtype=path.dtype) / problem.horizon
    gap = (problem.goal - path[:, -1]).unsqueeze(1)
    return path[:, 1:-1] + t.view(-1, *[1] * (path.ndim - 2)) * gap


def shift_states(problem: Problem, states: Tensor, steps: int) -> Tensor:
    """Move virtual states s_1..s_{T-1} [B, T - 1, *S] on by `steps` environment steps, towards the goal at the end."""
    last = problem.horizon - 1
    if last == 0:
        return states
    path = with_goal(problem, states)
    blocks, rest = divmod(steps, problem.model.action_block)
    index = torch.arange(last, device=states.device) + blocks
    before = path[:, index.clamp(max=last)]
    if rest == 0:
        return before
    return torch.lerp(before, path[:, (index + 1).clamp(max=last)], rest / problem.model.action_block)
