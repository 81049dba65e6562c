"""The distance to the goal in latent space, and what the actions cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grasp_agent.core.capabilities import distance_weights_of, measures_steps
from grasp_agent.core.checks import LARGEST_NUMBER, at_least, positive_or_none, shown
from grasp_agent.core.types import WorldModel

Numbers = Tensor | NDArray[Any] | Sequence[Any]
"""Numbers of any rank: a tensor, an array, or tuples and lists."""


@dataclass(frozen=True, eq=False)
class GoalDistance:
    """Distance to the goal at the end of the plan and, more lightly, on the way.

    With d(s) = || W (s - g) ||^2 over the flattened latent, or || phi(s) - phi(g) ||^2,

        trajectory cost = terminal * d(s_T) + running * mean_t d(s_t) + action * mean_t || a_t ||^2.

    The running term makes the plan that arrives earlier the cheaper one: without it a closed loop that
    replans can put the arrival off for ever, every decision being as good as the one before.

    Attributes:
        terminal: weight of the distance after the last step.
        running: weight of the distance averaged over all T steps.
        action: weight of the squared action block, environment units, averaged over all T steps.
        weights: weight of every latent number in d, shape S; None weighs all alike. Kept as a tensor.
        probe: linear read-out W [P, D] of the flattened latent (D numbers) whose distance counts: of all a
            visual latent holds, what matters for the task. Kept as a tensor.
        features: phi, latents [N, *S] -> [N, E], such as the `in_steps` of a model that has learned how many steps lie
            between states. At most one of `weights`, `probe` and `features`.
        huber: distance sqrt(d) beyond which the cost grows linearly instead of quadratically, so that far
            goals do not drown the rest; None keeps the square throughout.

    Raises:
        ValueError: a field is out of its range, no number, or not compatible with another.
    """

    terminal: float = 1.0
    running: float = 0.1
    action: float = 0.0
    weights: Numbers | None = None
    probe: Numbers | None = None
    features: Callable[[Tensor], Tensor] | None = None
    huber: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 0, "terminal", "running", "action")
        positive_or_none(self, "huber")
        if self.terminal == 0 and self.running == 0:
            raise ValueError(
                "GoalDistance: expected a positive terminal or running weight, got 0 for both; try terminal=1"
            )
        given = [name for name in ("weights", "probe", "features") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"GoalDistance: expected one of weights, probe and features, got {' and '.join(given)}; try features"
                " that do all of it"
            )
        if self.features is not None and not callable(self.features):
            raise TypeError(
                f"GoalDistance.features: expected a function of latents, such as model.in_steps, got"
                f" {shown(self.features)}"
            )
        for name in ("weights", "probe"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked(name, getattr(self, name)))

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """d(s) for `states` [N, *S] and `goal` [N, *S] -> [N].

        Raises:
            ValueError: weights or probe do not fit the latent.
        """
        return self._distance(self._compared(states) - self._compared(goal))

    def _compared(self, latents: Tensor) -> Tensor:
        """What of latents [N, *S] is compared."""
        return latents if self.features is None else self.features(latents)

    def _distance(self, gap: Tensor) -> Tensor:
        """d of differences of what is compared, [N, ...] -> [N]."""
        if isinstance(self.weights, Tensor):
            if self.weights.shape != gap.shape[1:]:
                raise ValueError(
                    f"GoalDistance.weights: expected shape {list(gap.shape[1:])} like the latent, "
                    f"got {list(self.weights.shape)}"
                )
            distance = (self.weights.to(gap) * gap.square()).flatten(1).sum(1)
        else:
            gap = gap.flatten(1)
            if isinstance(self.probe, Tensor):
                if self.probe.shape[1] != gap.shape[1]:
                    raise ValueError(
                        f"GoalDistance.probe: expected {gap.shape[1]} columns, one per latent number, "
                        f"got {self.probe.shape[1]}"
                    )
                gap = gap @ self.probe.to(gap).T
            distance = gap.square().sum(1)
        if self.huber is None:
            return distance
        return 2 * self.huber**2 * ((1 + distance / self.huber**2).sqrt() - 1)  # pseudo-Huber: d near 0

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Cost of `states` [N, T, *S] reached by `actions` [N, T, A] for `goal` [N, *S] -> [N]."""
        if self.running > 0:
            n, steps = states.shape[:2]
            compared = self._compared(states.flatten(0, 1)).unflatten(0, (n, steps))
            gaps = compared - self._compared(goal).unsqueeze(1)
            distances = self._distance(gaps.flatten(0, 1)).view(n, steps)
            cost = self.terminal * distances[:, -1] + self.running * distances.mean(1)
        else:
            cost = self.terminal * self.state_cost(states[:, -1], goal)
        if self.action > 0:
            cost = cost + self.action * actions.square().sum(2).mean(1)
        return cost


def default_objective(world_model: WorldModel) -> GoalDistance:
    """What an agent minimises unless it is told otherwise: the distance to the goal as the model tells it.

    Models may tell how many steps lie between states (see `Measuring`), or how much each number of their latent counts
    (see `Weighing`); without, all count alike.
    """
    if measures_steps(world_model):
        return GoalDistance(features=world_model.in_steps)
    return GoalDistance(weights=distance_weights_of(world_model))


def _checked(name: str, value: Numbers) -> Tensor:
    """The numbers of a field as a tensor of its own."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
            if array.dtype.kind == "c":
                raise TypeError("complex numbers")
            value = torch.from_numpy(np.array(array, dtype=np.float64))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            raise ValueError(
                f"GoalDistance.{name}: expected numbers (a tensor, an array, a tuple or a list), got {shown(value)}"
            ) from None
    numbers = not value.is_complex() and bool((value.double().abs() <= LARGEST_NUMBER).all())
    if not numbers or (name == "weights" and bool((value < 0).any())):
        raise ValueError(f"GoalDistance.{name}: expected finite numbers (weights 0 or more), got {shown(value)}")
    if name == "probe" and value.ndim != 2:
        raise ValueError(f"GoalDistance.probe: expected a matrix [P, D], got shape {list(value.shape)}")
    with torch.inference_mode(False):  # an inference tensor could not take part in a gradient later
        return value.detach().clone()
