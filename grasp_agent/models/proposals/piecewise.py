"""Proposals of any length, from a network that proposes plans of one length."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from grasp_agent.core.capabilities import action_limit_of
from grasp_agent.core.types import WorldModel

STRIDE = 6
"""Environment steps after which a long proposal is made anew from where the model says that it has led."""


class PlanNetwork(Protocol):
    """What proposes plans of one length, such as `PlanProposal`."""

    steps: int

    def __call__(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor, noise: Tensor) -> Tensor: ...


def propose_piecewise(
    model: WorldModel, proposal: PlanNetwork | None, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor
) -> Tensor:
    """Plans of the noise's length; every other one sees the whole goal.

    Plans longer than `proposal.steps` environment steps are made piece by piece: each piece starts from the states that
    the dynamics predicts for the pieces before.

    Args:
        model: predicts, and says how far actions go.
        proposal: makes the pieces; None if the model has none.
        states, past_actions, goal, noise: as in `grasp_agent.core.capabilities.Proposing`.

    Returns:
        Environment actions, [B, N, T * k, action_dim], within no bounds.

    Raises:
        ValueError: the model has no network that proposes.
    """
    if proposal is None:
        raise ValueError("propose: this world model makes no proposals (proposal_hidden = 0)")
    b, n, steps, dim = noise.shape
    k, span = model.action_block, proposal.steps
    shown = (torch.arange(n, device=noise.device) % 2).to(noise.dtype).repeat(b).unsqueeze(1)
    states, past, goal = (x.repeat_interleave(n, dim=0) for x in (states, past_actions, goal))
    drawn = functional.pad(noise.flatten(0, 1), (0, 0, 0, max(span - steps, 0)))
    stride = max(min(STRIDE, span) // k, 1) * k if steps > span else span
    pieces: list[Tensor] = []
    for begin in range(0, max(steps, 1), stride):
        window = (torch.arange(begin, begin + span, device=noise.device)) % drawn.shape[1]
        plan = proposal(states, past, goal, shown, drawn[:, window])[:, : min(stride, steps - begin)]
        pieces.append(plan)
        if begin + stride < steps:
            states, past = _advance(model, states, past, plan)
    return torch.cat(pieces, dim=1).view(b, n, steps, dim)


def _advance(model: WorldModel, states: Tensor, past: Tensor, plan: Tensor) -> tuple[Tensor, Tensor]:
    """The window of history after a plan [N, steps, dim] of whole blocks."""
    limit = action_limit_of(model) or torch.inf
    for block in plan.clamp(-limit, limit).reshape(len(plan), -1, model.action_dim * model.action_block).unbind(1):
        actions = torch.cat([past, block.unsqueeze(1)], dim=1)
        following = model.predict(states, actions)
        states, past = torch.cat([states[:, 1:], following.unsqueeze(1)], dim=1), actions[:, 1:]
    return states, past
