"""Where planning goes on: the previous plans moved on by the time that has passed, and some new ones beside them.

Time moves by single environment steps while a plan is made of blocks of k of them. A shift unrolls the blocks into one
flat sequence, moves that, and cuts it into blocks again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.capabilities import proposes
from grasp_agent.core.rng import split
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.initial_guesses import proposed_actions
from grasp_agent.planning.plans import Plans, score
from grasp_agent.planning.rollout import zero_plan


def shift_actions(problem: Problem, u: Tensor, steps: int) -> Tensor:
    """Drop the first `steps` environment steps of plans u [B, M, T, A] and fill the end with zero actions."""
    k, dim = problem.model.action_block, problem.model.action_dim
    if u.shape[2] != problem.horizon:
        raise ValueError(f"shift: expected the horizon the state was made for, {u.shape[2]}, got {problem.horizon}")
    if steps < 0:
        raise ValueError(f"shift: expected 0 or more environment steps, got {steps}")
    tail = zero_plan(problem).unsqueeze(1).expand_as(u)
    flat = torch.cat([u, tail], dim=2).view(*u.shape[:2], 2 * problem.horizon * k, dim)
    steps = min(steps, problem.horizon * k)
    return flat[:, :, steps : steps + problem.horizon * k].reshape(u.shape)


@dataclass(frozen=True)
class WarmStart:
    """Plans to go on from.

    Attributes:
        plans: R of them, rolled out: first those that continue earlier restarts, then new ones.
        nothing: the plan of zero actions, M = 1.
        parent_index: the earlier restart that each of the first plans continues, [B, at most R].
    """

    plans: Plans
    nothing: Plans
    parent_index: Tensor


def warm_start(
    problem: Problem,
    kept: Plans,
    best: Plans,
    best_index: Tensor,
    steps: int,
    keys: Tensor,
    refresh: int,
    candidates: int,
    scale: float,
    correlation: float,
) -> WarmStart:
    """Choose where the restarts go on, with one batched rollout for all that is tried.

    Restart 0 continues the best plan, the next ones continue the cheapest of the other restarts, and the last `refresh`
    (never restart 0) begin anew: half of them near the best plan, to refine what works, and half with the model's
    proposals or random plans, to find something else. Each new plan is the cheapest of `candidates`. A single restart
    takes the cheapest of the best plan and `candidates` proposals.

    Args:
        problem: B problems that begin `steps` environment steps after those that the plans were made for.
        kept: the cheapest plan of each restart, [B, R].
        best: the cheapest of all, M = 1.
        best_index: the restart it is from, [B].
        steps: environment steps that have passed.
        keys: random key per row, [B].
        refresh: restarts that begin anew.
        candidates: plans drawn for each of them.
        scale: standard deviation of the noise on plans, in half-ranges of the action.
        correlation: of the noise on an action with that an environment step later.
    """
    r = kept.cost.shape[1]
    nothing, first = zero_plan(problem).unsqueeze(1), shift_actions(problem, best.actions, steps)
    each, proposing = max(candidates, 1), candidates > 0 and proposes(problem.model)
    if r == 1:
        fresh = proposed_actions(problem, split(keys, 1), candidates if proposing else 0)
        tried = score(problem, torch.cat([nothing, first, fresh], dim=1))
        index = 1 + tried.cost[:, 1:].argmin(dim=1, keepdim=True)
        return WarmStart(tried.take(index), tried.take(0 * index), best_index.unsqueeze(1))

    refresh = min(refresh, r - 1)
    elsewhere = refresh // 2
    near = first + scale * smooth_noise(problem, split(keys, 0), (refresh - elsewhere) * each, correlation)
    if proposing:
        away = proposed_actions(problem, split(keys, 1), elsewhere * each)
    else:
        away = nothing + scale * smooth_noise(problem, split(keys, 1), elsewhere * each, correlation)
    fresh = torch.cat([near, away], dim=1).clamp(-1, 1)

    tried = score(problem, torch.cat([nothing, first, shift_actions(problem, kept.actions, steps), fresh], dim=1))
    others = tried.cost[:, 2 : 2 + r].scatter(1, best_index.unsqueeze(1), torch.inf)  # the best one has its place
    parents = torch.cat([best_index.unsqueeze(1), others.argsort(dim=1, stable=True)[:, : r - 1 - refresh]], dim=1)
    index = torch.cat([torch.ones_like(parents[:, :1]), 2 + parents[:, 1:]], dim=1)
    if refresh:
        winner = tried.cost[:, 2 + r :].unflatten(1, (-1, each)).argmin(dim=2)
        index = torch.cat([index, 2 + r + winner + each * torch.arange(refresh, device=winner.device)], dim=1)
    return WarmStart(tried.take(index), tried.take(torch.zeros_like(parents[:, :1])), parents)
