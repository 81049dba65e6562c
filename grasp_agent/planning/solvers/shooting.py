"""Random shooting: roll out smooth random plans and keep the best; the yardstick for other planners.

    u_m = clip(u_zero + sigma * xi_m, -1, 1),   plan = argmin_m C(rollout of u_m)

Where the model proposes plans, half of the u_m are proposals. The zero plan and, in closed loop, the shifted last
plan are candidates too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.types import Plan, Problem, proposes
from grasp_agent.planning.rollout import true_cost, zero_plan
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.warm_start import proposed_actions, shift_best, smooth_noise


@dataclass(frozen=True)
class ShootingState:
    """Attributes:
    keys: random key per row, [B].
    warm: the plan to start from, normalised, [B, T, A].
    best: best plan scored so far.
    """

    keys: Tensor
    warm: Tensor
    best: Best


@dataclass(frozen=True)
class RandomShooting:
    """Random shooting.

    Attributes:
        samples: M, plans rolled out per iteration.
        scale: sigma, in half-ranges of the action.
        correlation: of a random action with the one an environment step later.
    """

    name: ClassVar[str] = "shooting"
    decision_iterations: ClassVar[int] = 1

    samples: int = 64
    scale: float = 0.5
    correlation: float = 0.9

    def __post_init__(self) -> None:
        at_least(self, 1, "samples")
        positive(self, "scale")
        fraction(self, "correlation")

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> ShootingState:
        warm = zero_plan(problem) if start is None else start
        return ShootingState(keys.to(warm.device), warm, unscored(problem, warm))

    @torch.no_grad()
    def step(self, problem: Problem, state: ShootingState) -> ShootingState:
        proposed = self.samples // 2 if proposes(problem.model) else 0
        noise = smooth_noise(problem, split(state.keys, 0), self.samples - proposed, self.correlation)
        u = (zero_plan(problem).unsqueeze(1) + self.scale * noise).clamp_(-1, 1)
        if proposed:
            u = torch.cat([u, proposed_actions(problem, split(state.keys, 2), proposed)], dim=1)
        cost, states = true_cost(problem, u)
        return replace(state, keys=split(state.keys, 1), best=state.best.update(u, states, cost))

    def evaluate(self, problem: Problem, state: ShootingState) -> ShootingState:
        best, _, _ = score(problem, state.best, state.warm.unsqueeze(1))
        return replace(state, best=best)

    def shift(self, problem: Problem, state: ShootingState, n: int) -> ShootingState:
        warm = shift_best(problem, state.best, state.warm, n).squeeze(1)
        return ShootingState(split(state.keys, 1), warm, unscored(problem, zero_plan(problem)))

    def plan(self, problem: Problem, state: ShootingState) -> Plan:
        return make_plan(problem, state.best)
