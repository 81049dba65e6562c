"""Objectives added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.checks import instance_of, is_number, shown
from grasp_agent.core.types import Objective


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """A weighted sum of objectives, itself an objective.

    Attributes:
        terms: the objectives summed.
        weights: one weight of 0 or more per term.

    Raises:
        TypeError: no tuples, or terms that are no objectives.
        ValueError: weights out of range, or not as many as terms.
    """

    terms: tuple[Objective, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("terms", "weights"):
            instance_of(f"WeightedSum.{name}", getattr(self, name), Sequence, "a tuple")  # type: ignore[type-abstract]
        for term in self.terms:
            instance_of("WeightedSum.terms", term, Objective, "objectives")  # type: ignore[type-abstract]
        if not self.terms or len(self.terms) != len(self.weights):
            raise ValueError(
                f"WeightedSum: expected one weight per term and at least one term, "
                f"got {len(self.terms)} terms and {len(self.weights)} weights"
            )
        if not all(is_number(w) and w >= 0 for w in self.weights):
            raise ValueError(f"WeightedSum.weights: expected finite weights of 0 or more, got {shown(self.weights)}")

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """Weighted sum of the terms' state costs, [N, *S] -> [N]."""
        pairs = zip(self.weights, self.terms, strict=True)
        return torch.stack([w * term.state_cost(states, goal) for w, term in pairs]).sum(0)

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Weighted sum of the terms' trajectory costs, [N, T, *S] and [N, T, A] -> [N]."""
        pairs = zip(self.weights, self.terms, strict=True)
        return torch.stack([w * term.trajectory_cost(states, actions, goal) for w, term in pairs]).sum(0)
