"""Gradient descent on the actions through the serial rollout (GD, "shooting with gradients").

    minimise over u:  C(s_1, ..., s_T, a),   s_{t+1} = F(s_t, a_t),   a = middle + half_range * u,   u in [-1, 1]

    u <- clip(u - eta * dC/du, -1, 1)

The whole rollout is differentiated, T model calls in sequence each way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from grasp_agent.core.checks import choice, positive, positive_or_none
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, scored_start
from grasp_agent.planning.solvers.descent import (
    OPTIMIZERS,
    Moments,
    Optimizer,
    clipped,
    descent,
    holds_moments,
    no_moments,
    rollout_gradient,
)
from grasp_agent.planning.solvers.solver import Solver


@dataclass(frozen=True)
class GradientState:
    """Attributes:
    actions: u, normalised, [B, T, A].
    moments: the optimiser's memory of u.
    """

    actions: Tensor
    moments: Moments


@dataclass(frozen=True)
class GradientDescent(Solver[GradientState]):
    """Gradient descent through the rollout.

    Attributes:
        rate: eta, in half-ranges of the action.
        optimizer: "adam" or "sgd".
        clip: longest gradient; None does not clip.
    """

    name: ClassVar[str] = "gd"

    rate: float = 0.1
    optimizer: Optimizer = "adam"
    clip: float | None = None

    def __post_init__(self) -> None:
        positive(self, "rate")
        positive_or_none(self, "clip")
        choice(self, "optimizer", OPTIMIZERS)

    @property
    def decision_iterations(self) -> int:
        return 7

    def init(self, problem: Problem, start: Start, keys: Tensor) -> GradientState:
        return GradientState(start.actions, no_moments(self.optimizer, start.actions))

    def step(self, problem: Problem, state: GradientState) -> tuple[GradientState, Plans | None]:
        gradient, scored = rollout_gradient(problem, state.actions)
        change, moments = descent(self.optimizer, self.rate, clipped(gradient, self.clip), state.moments)
        return GradientState((state.actions + change).clamp_(-1, 1), moments), scored

    def restart(self, problem: Problem, state: GradientState, start: Start, keys: Tensor) -> GradientState:
        """Go on with the moments: a first step of Adam is full-size whatever the gradient, and short phases would be
        made of nothing else."""
        return replace(state, actions=start.actions)

    def holds(self, state: Any) -> bool:
        return super().holds(state) and holds_moments(self.optimizer, state.moments)

    def current(self, problem: Problem, state: GradientState) -> Start:
        return scored_start(problem, state.actions)
