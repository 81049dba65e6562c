"""Gradient descent on rows: the rollout's gradient, clipping, and optimisers with explicit memory.

`torch.optim` keeps one step count and hidden moments for a whole tensor. Here each row has its own, so rows
can be reset or dropped, and an update is a pure function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans
from grasp_agent.planning.rollout import per_row, true_cost

Optimizer = Literal["adam", "sgd"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adam", "sgd")

_DECAY_1, _DECAY_2, _EPS = 0.9, 0.999, 1e-8  # Adam's customary constants (Kingma and Ba, 2015)


@dataclass(frozen=True)
class Moments:
    """Adam's memory of one variable [B, ...]; empty tensors for plain gradient descent.

    Attributes:
        first: running mean of the gradient, [B, ...].
        second: running mean of its square, [B, ...].
        count: updates made, [B].
    """

    first: Tensor
    second: Tensor
    count: Tensor


def no_moments(optimizer: Optimizer, like: Tensor) -> Moments:
    """The memory before the first update of a variable like `like` [B, ...]."""
    zeros = torch.zeros_like(like) if optimizer == "adam" else like.new_zeros(len(like), 0)
    return Moments(zeros, zeros, torch.zeros(len(like), dtype=torch.int64, device=like.device))


def holds_moments(optimizer: Optimizer, moments: Moments) -> bool:
    """Whether the memory is one of this optimiser."""
    return (moments.first.numel() > 0) == (optimizer == "adam")


def descent(optimizer: Optimizer, rate: float, gradient: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
    """The change to add to a variable, given its gradient [B, ...], and the new memory."""
    if optimizer == "sgd":
        return -rate * gradient, moments
    count = moments.count + 1
    first = torch.lerp(gradient, moments.first, _DECAY_1)
    second = torch.lerp(gradient.square(), moments.second, _DECAY_2)
    per_row = count.to(gradient.dtype).view(-1, *[1] * (gradient.ndim - 1))
    size = (second / (1 - torch.pow(_DECAY_2, per_row))).sqrt_().add_(_EPS)
    change: Tensor = first / size * (-rate / (1 - torch.pow(_DECAY_1, per_row)))
    return change, Moments(first, second, count)


def norms(gradient: Tensor) -> Tensor:
    """Euclidean norm per row: [B, ...] -> [B]."""
    norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norm


def clipped(gradient: Tensor, limit: float | None) -> Tensor:
    """The gradient [B, ...] made finite, and no longer than `limit` per row."""
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # one broken prediction must not poison a plan for good
    if limit is None:
        return gradient
    return gradient * per_row(limit / norms(gradient).clamp(min=limit), gradient)


_CUT_OFF = (
    "world model: expected predictions that depend differentiably on the actions, got no gradient; "
    "try removing no_grad() or detach() from its predict, or a planner without gradients such as CEM"
)


def require_gradient(predicted: Tensor) -> None:
    """Raise a ValueError if the model's predictions are cut off from all that they could depend on."""
    if not predicted.requires_grad:
        raise ValueError(_CUT_OFF)


def to_actions(gradient: Tensor | None) -> Tensor:
    """The gradient that came back to the actions a model has read; a ValueError if there is none."""
    if gradient is None:
        raise ValueError(_CUT_OFF)
    return gradient


def rollout_gradient(problem: Problem, u: Tensor) -> tuple[Tensor, Plans]:
    """Backpropagate through the T-step rollout of plans u [B, T, A] -> gradient [B, T, A], and the plans rolled out.

    The cost comes for free, so a descent scores its own iterates.
    """
    u = u.detach().requires_grad_(True)
    cost, states = true_cost(problem, u.unsqueeze(1))
    require_gradient(states)
    total = cost.masked_fill(cost.isinf(), 0.0).sum()  # a broken plan contributes nothing, not infinity
    (gradient,) = torch.autograd.grad(total, u, allow_unused=True)
    return to_actions(gradient), Plans(u.detach().unsqueeze(1), states.detach(), cost.detach())
