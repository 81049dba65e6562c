"""Random shooting: roll out smooth random plans and keep the best; the yardstick for other planners.

    u_m = clip(u_zero + sigma * xi_m, -1, 1),   plan = argmin_m C(rollout of u_m)

Where the model proposes plans, half of the u_m are proposals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.capabilities import proposes
from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.initial_guesses import proposed_actions
from grasp_agent.planning.plans import Plans, Start, score, start_at
from grasp_agent.planning.rollout import zero_plan
from grasp_agent.planning.solvers.solver import Solver


@dataclass(frozen=True)
class ShootingState:
    """Attributes:
    keys: random key per row, [B].
    plan: the cheapest plan so far.
    """

    keys: Tensor
    plan: Start


@dataclass(frozen=True)
class RandomShooting(Solver[ShootingState]):
    """Random shooting.

    Attributes:
        samples: M, plans rolled out per iteration.
        scale: sigma, in half-ranges of the action.
        correlation: of a random action with the one an environment step later.
    """

    name: ClassVar[str] = "shooting"

    samples: int = 64
    scale: float = 0.5
    correlation: float = 0.9

    def __post_init__(self) -> None:
        at_least(self, 1, "samples")
        positive(self, "scale")
        fraction(self, "correlation")

    @property
    def decision_iterations(self) -> int:
        return 1

    def init(self, problem: Problem, start: Start, keys: Tensor) -> ShootingState:
        return ShootingState(keys, Start(start.actions, start.states, start.cost))

    def step(self, problem: Problem, state: ShootingState) -> tuple[ShootingState, Plans | None]:
        proposed = self.samples // 2 if proposes(problem.model) else 0
        noise = smooth_noise(problem, split(state.keys, 0), self.samples - proposed, self.correlation)
        u = (zero_plan(problem).unsqueeze(1) + self.scale * noise).clamp_(-1, 1)
        if proposed:
            u = torch.cat([u, proposed_actions(problem, split(state.keys, 2), proposed)], dim=1)
        best = score(problem, u).cheapest()
        return ShootingState(split(state.keys, 1), start_at(state.plan.as_plans.or_cheaper(best))), best

    def current(self, problem: Problem, state: ShootingState) -> Start:
        return state.plan
