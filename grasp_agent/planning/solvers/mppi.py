"""MPPI: model predictive path integral control, a plan moved to the weighted mean of samples around it.

    u_m = clip(mu + sigma * xi_m, -1, 1),  m = 1..M        (u_1 = mu itself)
    w_m = exp(-(C_m - min C) / (lambda * (median C - min C))) / Z,   sum_m w_m = 1
    mu <- sum_m w_m u_m

Williams, Wagener, Goldfain, Drews, Rehg, Boots and Theodorou, "Information Theoretic MPC for Model-Based
Reinforcement Learning", ICRA 2017. C is the true rollout cost. The temperature lambda carries no unit because it
is measured in the row's own spread of costs: a sample of median cost weighs exp(-1 / lambda) times as much as the
best. The median, unlike a standard deviation, does not care how bad the bad half is, nor whether its costs are
finite at all. Left out is the paper's cost of control relative to mu, as usual where the objective has its own
cost of actions. The noise xi may keep its direction for a while (an AR(1) process over environment steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import Plans, Start, score, scored_start
from grasp_agent.planning.solvers.solver import Solver


@dataclass(frozen=True)
class MPPIState:
    """Attributes:
    keys: random key per row, [B].
    mean: mu, normalised, [B, T, A].
    """

    keys: Tensor
    mean: Tensor


def path_weights(cost: Tensor, temperature: float) -> Tensor:
    """The weights w of samples of `cost` [B, M] -> [B, M], each row summing to 1.

    Samples of infinite cost weigh nothing, unless there are no others.
    """
    excess = cost - cost.min(dim=1, keepdim=True).values
    spread = cost.median(dim=1, keepdim=True).values - cost.min(dim=1, keepdim=True).values
    exponent = excess / (temperature * spread).clamp(min=torch.finfo(cost.dtype).tiny)
    exponent = exponent.masked_fill(cost.isinf(), torch.inf).nan_to_num(0.0)
    return torch.softmax(-exponent, dim=1)


@dataclass(frozen=True)
class MPPI(Solver[MPPIState]):
    """Model predictive path integral control.

    Attributes:
        samples: M, plans rolled out per iteration.
        temperature: lambda; towards 0 the best sample alone counts, towards infinity all count alike.
        scale: sigma, in half-ranges of the action.
        correlation: of the noise on an action with that an environment step later.
    """

    name: ClassVar[str] = "mppi"

    samples: int = 64
    temperature: float = 0.03
    scale: float = 0.3
    correlation: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 2, "samples")
        positive(self, "temperature", "scale")
        fraction(self, "correlation")

    @property
    def decision_iterations(self) -> int:
        return 4

    def init(self, problem: Problem, start: Start, keys: Tensor) -> MPPIState:
        return MPPIState(keys, start.actions)

    @torch.no_grad()
    def step(self, problem: Problem, state: MPPIState) -> tuple[MPPIState, Plans | None]:
        noise = smooth_noise(problem, split(state.keys, 0), self.samples - 1, self.correlation)
        center = state.mean.unsqueeze(1)
        samples = torch.cat([center, (center + self.scale * noise).clamp_(-1, 1)], dim=1)
        plans = score(problem, samples)
        weights = path_weights(plans.cost, self.temperature)
        mean = (weights[:, :, None, None] * samples).sum(dim=1).clamp_(-1, 1)  # weights sum to 1 but for rounding
        return MPPIState(split(state.keys, 1), mean), plans.cheapest()

    def current(self, problem: Problem, state: MPPIState) -> Start:
        return scored_start(problem, state.mean)
