"""What plans are judged by: distances to the goal in latent space, what the actions cost, and weighted sums
of these.

An objective answers two questions (the `Objective` protocol in types.py): `state_cost`, how bad a state is,
which the dense goal shaping of GRASP asks about every virtual step; and `trajectory_cost`, the true cost of a
predicted trajectory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.types import Objective, WorldModel


@dataclass(frozen=True, eq=False)
class GoalDistance:
    """Distance to the goal at the end of the plan and, more lightly, on the way.

    With d(s) = || W (s - g) ||^2 over the flattened latent,

        trajectory cost = terminal * d(s_T) + running * mean_t d(s_t) + action * mean_t || a_t ||^2.

    The running term makes the plan that arrives earlier the cheaper one: without it a closed loop that
    replans can put the arrival off for ever, every decision being as good as the one before.

    Attributes:
        terminal: weight of the distance after the last step.
        running: weight of the distance averaged over all T steps.
        action: weight of the squared action block, environment units, averaged over all T steps.
        weights: weight of every latent number in d, shape S; None weighs all alike.
        probe: linear read-out W [P, D] of the flattened latent (D numbers) whose distance counts: of all a
            visual latent holds, what matters for the task. At most one of `weights` and `probe`.
        huber: distance sqrt(d) beyond which the cost grows linearly instead of quadratically, so that far
            goals do not drown the rest; None keeps the square throughout.
    """

    terminal: float = 1.0
    running: float = 0.1
    action: float = 0.0
    weights: Tensor | None = None
    probe: Tensor | None = None
    huber: float | None = None

    def __post_init__(self) -> None:
        for name in ("terminal", "running", "action"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"GoalDistance.{name}: expected a finite weight of 0 or more, got {value}")
        if self.terminal == 0 and self.running == 0:
            raise ValueError(
                "GoalDistance: expected a positive terminal or running weight, got 0 for both; try terminal=1"
            )
        if self.weights is not None and self.probe is not None:
            raise ValueError(
                "GoalDistance: expected weights or probe, got both; try a probe whose rows hold the weights"
            )
        if self.huber is not None and not self.huber > 0:
            raise ValueError(f"GoalDistance.huber: expected a positive distance or None, got {self.huber}")
        for name in ("weights", "probe"):
            value = getattr(self, name)
            if value is None:
                continue
            if not bool(torch.isfinite(value).all()) or (name == "weights" and bool((value < 0).any())):
                raise ValueError(f"GoalDistance.{name}: expected finite numbers (weights 0 or more), got {value}")
            if name == "probe" and value.ndim != 2:
                raise ValueError(f"GoalDistance.probe: expected a matrix [P, D], got shape {list(value.shape)}")
            with torch.inference_mode(False):  # an inference tensor could not take part in a gradient later
                object.__setattr__(self, name, value.detach().clone())

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """d(s) for `states` [N, *S] and `goal` [N, *S] -> [N].

        Raises:
            ValueError: weights or probe do not fit the latent.
        """
        gap = states - goal
        if self.weights is not None:
            if self.weights.shape != gap.shape[1:]:
                raise ValueError(
                    f"GoalDistance.weights: expected shape {list(gap.shape[1:])} like the latent, "
                    f"got {list(self.weights.shape)}"
                )
            distance = (self.weights.to(gap) * gap.square()).flatten(1).sum(1)
        else:
            gap = gap.flatten(1)
            if self.probe is not None:
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
            goals = goal.unsqueeze(1).expand_as(states).flatten(0, 1)
            distances = self.state_cost(states.flatten(0, 1), goals).view(n, steps)
            cost = self.terminal * distances[:, -1] + self.running * distances.mean(1)
        else:
            cost = self.terminal * self.state_cost(states[:, -1], goal)
        if self.action > 0:
            cost = cost + self.action * actions.square().sum(2).mean(1)
        return cost


def default_objective(world_model: WorldModel) -> GoalDistance:
    """What an agent minimises unless it is told otherwise: the distance to the goal, weighed as the model says.

    Models may carry `distance_weights`, one per number of their latent; without, all count alike.
    """
    weights = getattr(world_model, "distance_weights", None)
    return GoalDistance(weights=None if weights is None else torch.tensor(weights))


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """A weighted sum of objectives, itself an objective.

    Attributes:
        terms: the objectives summed.
        weights: one weight of 0 or more per term.
    """

    terms: tuple[Objective, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.terms or len(self.terms) != len(self.weights):
            raise ValueError(
                f"WeightedSum: expected one weight per term and at least one term, "
                f"got {len(self.terms)} terms and {len(self.weights)} weights"
            )
        if not all(math.isfinite(w) and w >= 0 for w in self.weights):
            raise ValueError(f"WeightedSum.weights: expected finite weights of 0 or more, got {self.weights}")

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """Weighted sum of the terms' state costs, [N, *S] -> [N]."""
        pairs = zip(self.weights, self.terms, strict=True)
        return torch.stack([w * term.state_cost(states, goal) for w, term in pairs]).sum(0)

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Weighted sum of the terms' trajectory costs, [N, T, *S] and [N, T, A] -> [N]."""
        pairs = zip(self.weights, self.terms, strict=True)
        return torch.stack([w * term.trajectory_cost(states, actions, goal) for w, term in pairs]).sum(0)
