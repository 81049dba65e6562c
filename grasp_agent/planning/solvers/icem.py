"""iCEM: the cross-entropy method made sample-efficient for closed-loop control.

    u_m = clip(mu + sigma * xi_m, -1, 1),   xi coloured noise: power spectrum ~ 1 / f^beta over environment steps
    samples = { mu, the kept elites, fresh u_m },  M in all;   E = the n_e cheapest by true rollout cost
    mu    <- alpha * mu    + (1 - alpha) * mean over E
    sigma <- alpha * sigma + (1 - alpha) * std over E

Pinneri, Sawant, Blaes, Achterhold, Stueckler, Rolinek and Martius, "Sample-efficient Cross-Entropy Method for
Real-time Planning", CoRL 2020. What it adds to CEM: noise that keeps its direction for a while, elites that are
kept from one iteration to the next and, shifted, from one decision to the next, momentum, and the mean itself as
a sample. The paper adds the mean in the last iteration only; here it is always there, because a planner that may
be stopped at any time does not know its last iteration. Left out is the paper's shrinking of M from iteration to
iteration: rows of one batch may be at different iterations, but share its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.rows import take
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import coloured_noise
from grasp_agent.planning.plans import Plans, Start, score, scored_start
from grasp_agent.planning.solvers.solver import Solver
from grasp_agent.planning.warm_start import shift_actions


@dataclass(frozen=True)
class ICEMState:
    """Attributes:
    keys: random key per row, [B].
    mean: mu, normalised, [B, T, A].
    deviation: sigma, [B, T, A].
    elites: the kept ones, cheapest first, normalised, [B, K, T, A]; before the first iteration ordinary samples.
    """

    keys: Tensor
    mean: Tensor
    deviation: Tensor
    elites: Tensor


@dataclass(frozen=True)
class ICEM(Solver[ICEMState]):
    """The improved cross-entropy method.

    Attributes:
        samples: M, plans rolled out per iteration, the mean and the kept elites among them.
        elites: n_e, plans the new mean and deviation are taken from.
        keep: fraction of the elites, rounded down to K of them, that are samples of the next iteration too.
        momentum: alpha, how much of the old mean and deviation stays.
        init_scale: starting sigma, in half-ranges of the action.
        exponent: beta of the noise; 0 is white, larger is smoother.
    """

    name: ClassVar[str] = "icem"

    samples: int = 64
    elites: int = 8
    keep: float = 0.3
    momentum: float = 0.1
    init_scale: float = 0.5
    exponent: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, 2, "samples")
        at_least(self, 1, "elites")
        at_least(self, 0, "exponent")
        positive(self, "init_scale")
        fraction(self, "keep", "momentum")
        if self.elites > self.samples:
            raise ValueError(f"ICEM.elites: expected at most samples = {self.samples}, got {self.elites}")
        if self._kept > self.samples - 2:
            raise ValueError(
                f"ICEM.keep: expected room for a fresh sample beside the mean and the kept elites, got {self._kept} "
                f"kept of {self.samples} samples; try more samples or a smaller fraction"
            )

    @property
    def decision_iterations(self) -> int:
        return 4

    @property
    def _kept(self) -> int:
        return int(self.keep * self.elites)

    def init(self, problem: Problem, start: Start, keys: Tensor) -> ICEMState:
        deviation = torch.full_like(start.actions, self.init_scale)
        elites = self._draw(problem, split(keys, 0), start.actions, deviation, self._kept)
        return ICEMState(split(keys, 1), start.actions, deviation, elites)

    @torch.no_grad()
    def step(self, problem: Problem, state: ICEMState) -> tuple[ICEMState, Plans | None]:
        fresh = self._draw(problem, split(state.keys, 0), state.mean, state.deviation, self.samples - 1 - self._kept)
        samples = torch.cat([state.mean.unsqueeze(1), state.elites, fresh], dim=1)
        plans = score(problem, samples)
        index = plans.cost.topk(self.elites, dim=1, largest=False, sorted=True).indices
        elites = take(samples, index)
        moved = ICEMState(
            keys=split(state.keys, 1),
            mean=torch.lerp(elites.mean(dim=1), state.mean, self.momentum),
            deviation=torch.lerp(elites.std(dim=1, correction=0), state.deviation, self.momentum),
            elites=elites[:, : self._kept],
        )
        return moved, plans.take(index[:, :1])

    def holds(self, state: Any) -> bool:
        return super().holds(state) and state.elites.shape[-3] == self._kept

    def current(self, problem: Problem, state: ICEMState) -> Start:
        return scored_start(problem, state.mean)

    def shift(self, problem: Problem, state: ICEMState, start: Start, keys: Tensor, steps: int) -> ICEMState:
        """Start around the plan at full deviation, the kept elites, moved on in time, among the samples."""
        deviation = torch.full_like(start.actions, self.init_scale)
        return ICEMState(keys, start.actions, deviation, shift_actions(problem, state.elites, steps))

    def _draw(self, problem: Problem, keys: Tensor, mean: Tensor, deviation: Tensor, count: int) -> Tensor:
        noise = coloured_noise(problem, keys, count, self.exponent)
        return (mean.unsqueeze(1) + deviation.unsqueeze(1) * noise).clamp_(-1, 1)
