"""The cross-entropy method (CEM): sample plans around a mean, move it to the best of them, repeat.

    u_m = clip(mu + sigma * xi_m, -1, 1),  m = 1..M        (u_1 = mu itself)
    E = the n_e samples of lowest true rollout cost
    mu <- mean over E,   sigma <- max(std over E, sigma_min)

Rubinstein and Kroese, "The Cross-Entropy Method" (2004); the planner of PlaNet, DINO-WM and LeWM. Needs no
gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.rows import take
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import Plans, Start, score, scored_start
from grasp_agent.planning.solvers.solver import Solver


@dataclass(frozen=True)
class CEMState:
    """Attributes:
    keys: random key per row, [B].
    mean: mu, normalised, [B, T, A].
    deviation: sigma, [B, T, A].
    """

    keys: Tensor
    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class CEM(Solver[CEMState]):
    """The cross-entropy method.

    Attributes:
        samples: M, plans rolled out per iteration.
        elites: n_e, plans the new mean and deviation are taken from.
        init_scale: starting sigma, in half-ranges of the action.
        floor: sigma_min, in half-ranges of the action.
        correlation: of the noise on an action with that an environment step later.
    """

    name: ClassVar[str] = "cem"

    samples: int = 64
    elites: int = 8
    init_scale: float = 0.5
    floor: float = 0.01
    correlation: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 2, "samples")
        at_least(self, 1, "elites")
        if self.elites > self.samples:
            raise ValueError(f"CEM.elites: expected at most samples = {self.samples}, got {self.elites}")
        positive(self, "init_scale")
        at_least(self, 0, "floor")
        fraction(self, "correlation")

    @property
    def decision_iterations(self) -> int:
        return 4

    def init(self, problem: Problem, start: Start, keys: Tensor) -> CEMState:
        """Sample around the plan with the starting deviation."""
        return CEMState(keys, start.actions, torch.full_like(start.actions, self.init_scale))

    def restart(self, problem: Problem, state: CEMState, start: Start, keys: Tensor) -> CEMState:
        """Sample around the plan, most widely where virtual states and rollout disagree: there it is in doubt."""
        if start.doubt is None:
            return replace(state, mean=start.actions)
        deviation = start.doubt.clamp(min(self.floor, 1.0), 1.0).unsqueeze(2).expand_as(start.actions)
        return replace(state, mean=start.actions, deviation=deviation)

    @torch.no_grad()
    def step(self, problem: Problem, state: CEMState) -> tuple[CEMState, Plans | None]:
        noise = smooth_noise(problem, split(state.keys, 0), self.samples - 1, self.correlation)
        center = state.mean.unsqueeze(1)
        samples = torch.cat([center, (center + state.deviation.unsqueeze(1) * noise).clamp_(-1, 1)], dim=1)
        plans = score(problem, samples)
        index = plans.cost.topk(self.elites, dim=1, largest=False, sorted=True).indices
        elites = take(samples, index)
        deviation = elites.std(dim=1, correction=0).clamp(min=self.floor)
        return CEMState(split(state.keys, 1), elites.mean(dim=1), deviation), plans.take(index[:, :1])

    def current(self, problem: Problem, state: CEMState) -> Start:
        return scored_start(problem, state.mean)
