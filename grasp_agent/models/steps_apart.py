"""How many steps lie between two states: a network that puts latents where straight lines are as long as ways.

    steps(s, g) = || phi(s) - phi(g) ||

Where walls stand, a state that looks close to the goal may be far from it. phi is trained by `training/distance.py` on
the shortest ways that the data know, and makes a world model `Measuring` (core/capabilities.py): plans are then judged
by || phi(s) - phi(g) ||^2 (`objectives.default_objective`).

The network is piecewise linear. So the second derivative of the squared distance is 2 J^T J, the Gauss-Newton matrix:
never indefinite, which solvers of second order need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

SPACE = 32
"""Dimensions of the space: of a plane, ways around walls could not be folded out."""


class StepsApart(nn.Module):
    """The network phi. Latents are standardised inside.

    Args:
        state_size: D, numbers in a latent.
        hidden: width of its three layers.
        counts: which of these numbers goals are about, D booleans; the others are not looked at. None: all.
    """

    mean: Tensor
    deviation: Tensor
    columns: Tensor

    def __init__(self, state_size: int, hidden: int, counts: Sequence[bool] | None = None) -> None:
        super().__init__()
        columns = [i for i in range(state_size) if counts is None or counts[i]]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("mean", torch.zeros(len(columns)))
        self.register_buffer("deviation", torch.ones(len(columns)))
        layers: list[nn.Module] = []
        size = len(columns)
        for _ in range(3):
            layers += [nn.Linear(size, hidden), nn.ReLU()]
            size = hidden
        self.net = nn.Sequential(*layers, nn.Linear(size, SPACE))

    @classmethod
    def of(cls, state_size: int, hidden: int, counts: Sequence[bool] | None = None) -> Self | None:
        """What a model with these settings tells steps with; None if its width is 0."""
        return cls(state_size, hidden, counts) if hidden else None

    def fit_scales(self, states: Tensor) -> None:
        """Take means and deviations from data: latents [N, D]."""
        seen = states.to(self.mean)[:, self.columns]
        self.mean, self.deviation = seen.mean(0), seen.std(0).clamp(min=1e-4)

    def forward(self, states: Tensor) -> Tensor:
        """phi of latents [N, D] -> [N, SPACE], in steps."""
        space: Tensor = self.net((states[:, self.columns] - self.mean) / self.deviation)
        return space


class TellingSteps:
    """A world model that tells how many steps lie between states, or does not: what makes it `Measuring`.

    Attributes:
        steps_apart: the network, or None.
    """

    steps_apart: StepsApart | None

    @property
    def measures(self) -> bool:
        """Whether this model has learned to."""
        return self.steps_apart is not None

    def in_steps(self, states: Tensor) -> Tensor:
        """Latents [N, *S] in a space where distances are steps, [N, SPACE] (see `Measuring`).

        Raises:
            ValueError: the model has not learned to.
        """
        if self.steps_apart is None:
            raise ValueError("distance: this world model has learned none; train it with --detours yes")
        space: Tensor = self.steps_apart(states.flatten(1))
        return space
