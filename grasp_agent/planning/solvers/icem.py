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

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, fraction, positive
from grasp_agent.core.rng import normal, split
from grasp_agent.core.rows import take
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.rollout import true_cost
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.warm_start import shift_actions, shifted_plan, starting_plan

_CORRELATION = 0.9  # between neighbouring actions of the random plans screened for a first mean, as for other planners


def coloured_noise(problem: Problem, keys: Tensor, count: int, exponent: float) -> Tensor:
    """Gaussian action sequences of unit variance with a power-law spectrum, [B, count, T, A].

    The power of frequency f, over the environment steps of the flat sequence, is proportional to 1 / f^exponent:
    0 is white noise, 2 like a random walk. The mean, f = 0, has the power of the lowest frequency.
    """
    k, dim = problem.model.action_block, problem.model.action_dim
    steps = problem.horizon * k
    white = normal(keys, (count, steps, dim), problem.goal.dtype)
    index = torch.arange(steps, device=white.device)
    frequency = torch.minimum(index, steps - index).clamp(min=1).to(white.dtype)
    gain = frequency.pow(-exponent / 2)
    gain = gain / gain.square().mean().sqrt()  # over both halves of the spectrum: unit variance
    response = torch.fft.irfft(gain[: steps // 2 + 1].to(gain.dtype.to_complex()), n=steps)
    coloured: Tensor = response[(index[:, None] - index[None, :]) % steps] @ white  # a circular convolution along time
    return coloured.view(problem.batch, count, problem.horizon, k * dim)


@dataclass(frozen=True)
class ICEMState:
    """Attributes:
    keys: random key per row, [B].
    mean: mu, normalised, [B, T, A].
    deviation: sigma, [B, T, A].
    elites: the kept ones, cheapest first, normalised, [B, K, T, A]; before the first iteration ordinary samples.
    best: best plan scored so far.
    """

    keys: Tensor
    mean: Tensor
    deviation: Tensor
    elites: Tensor
    best: Best


@dataclass(frozen=True)
class ICEM:
    """The improved cross-entropy method.

    Attributes:
        samples: M, plans rolled out per iteration, the mean and the kept elites among them.
        elites: n_e, plans the new mean and deviation are taken from.
        keep: fraction of the elites, rounded down to K of them, that are samples of the next iteration too.
        momentum: alpha, how much of the old mean and deviation stays.
        init_scale: starting sigma, in half-ranges of the action.
        exponent: beta of the noise; 0 is white, larger is smoother.
        screen: plans drawn, proposals if the model makes any, of which the cheapest is the first mean (and at a warm
            start, if it beats the last plan).
    """

    name: ClassVar[str] = "icem"
    decision_iterations: ClassVar[int] = 4

    samples: int = 64
    elites: int = 8
    keep: float = 0.3
    momentum: float = 0.1
    init_scale: float = 0.5
    exponent: float = 1.0
    screen: int = 32

    def __post_init__(self) -> None:
        at_least(self, 2, "samples")
        at_least(self, 1, "elites")
        at_least(self, 0, "exponent", "screen")
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
    def _kept(self) -> int:
        return int(self.keep * self.elites)

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> ICEMState:
        keys = keys.to(problem.goal.device)
        if start is None:
            start = starting_plan(problem, split(keys, 2), self.screen, self.init_scale, _CORRELATION)
        deviation = torch.full_like(start, self.init_scale)
        elites = self._draw(problem, split(keys, 3), start, deviation, self._kept)
        return ICEMState(split(keys, 1), start, deviation, elites, unscored(problem, start))

    @torch.no_grad()
    def step(self, problem: Problem, state: ICEMState) -> ICEMState:
        fresh = self._draw(problem, split(state.keys, 0), state.mean, state.deviation, self.samples - 1 - self._kept)
        samples = torch.cat([state.mean.unsqueeze(1), state.elites, fresh], dim=1)
        cost, states = true_cost(problem, samples)
        index = cost.topk(self.elites, dim=1, largest=False, sorted=True).indices
        elites = take(samples, index)
        return ICEMState(
            keys=split(state.keys, 1),
            mean=torch.lerp(elites.mean(dim=1), state.mean, self.momentum),
            deviation=torch.lerp(elites.std(dim=1, correction=0), state.deviation, self.momentum),
            elites=elites[:, : self._kept],
            best=state.best.update(samples, states, cost),
        )

    def evaluate(self, problem: Problem, state: ICEMState) -> ICEMState:
        best, _, _ = score(problem, state.best, state.mean.unsqueeze(1))
        return replace(state, best=best)

    def shift(self, problem: Problem, state: ICEMState, n: int) -> ICEMState:
        """Start around the shifted best plan at full deviation, the kept elites, shifted too, among the samples."""
        mean, best = shifted_plan(problem, state.best, state.mean, n, split(state.keys, 2), self.screen)
        return ICEMState(
            keys=split(state.keys, 1),
            mean=mean,
            deviation=torch.full_like(mean, self.init_scale),
            elites=shift_actions(problem, state.elites, n),
            best=best,
        )

    def plan(self, problem: Problem, state: ICEMState) -> Plan:
        return make_plan(problem, state.best)

    def _draw(self, problem: Problem, keys: Tensor, mean: Tensor, deviation: Tensor, count: int) -> Tensor:
        noise = coloured_noise(problem, keys, count, self.exponent)
        return (mean.unsqueeze(1) + deviation.unsqueeze(1) * noise).clamp_(-1, 1)
