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
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.rollout import true_cost
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.warm_start import shifted_plan, smooth_noise, starting_plan


@dataclass(frozen=True)
class CEMState:
    """Attributes:
    keys: random key per row, [B].
    mean: mu, normalised, [B, T, A].
    deviation: sigma, [B, T, A].
    best: best plan scored so far.
    """

    keys: Tensor
    mean: Tensor
    deviation: Tensor
    best: Best


@torch.no_grad()
def cem_round(
    problem: Problem, mean: Tensor, deviation: Tensor, noise: Tensor, elites: int, floor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One round of M samples around each of R means.

    Args:
        problem: B problems.
        mean: [B, R, T, A], normalised.
        deviation: [B, R, T, A].
        noise: xi, [B, R, M - 1, T, A]; the mean itself is the first sample.
        elites: n_e, samples kept.
        floor: sigma_min.

    Returns:
        New mean and deviation [B, R, T, A], and per mean the best sample: actions [B, R, T, A],
        rollout [B, R, T + 1, *S], cost [B, R].
    """
    b, r = mean.shape[:2]
    center = mean.unsqueeze(2)
    samples = torch.cat([center, (center + deviation.unsqueeze(2) * noise).clamp_(-1, 1)], dim=2)
    cost, states = true_cost(problem, samples.flatten(1, 2))
    cost = cost.view(b, r, -1)
    lowest, index = cost.topk(elites, dim=2, largest=False, sorted=True)
    chosen = torch.take_along_dim(samples, index[..., None, None], dim=2)
    first = index[:, :, 0].unsqueeze(2)
    rollouts = states.view(b, r, samples.shape[2], *states.shape[2:])
    rollout = torch.take_along_dim(rollouts, first.view(b, r, 1, *[1] * (states.ndim - 2)), dim=2).squeeze(2)
    spread = chosen.std(dim=2, correction=0).clamp(min=floor)
    return chosen.mean(dim=2), spread, chosen[:, :, 0], rollout, lowest[:, :, 0]


@dataclass(frozen=True)
class CEM:
    """The cross-entropy method.

    Attributes:
        samples: M, plans rolled out per iteration.
        elites: n_e, plans the new mean and deviation are taken from.
        init_scale: starting sigma, in half-ranges of the action.
        floor: sigma_min, in half-ranges of the action.
        correlation: of the noise on an action with that an environment step later.
        screen: plans drawn, proposals if the model makes any, of which the cheapest is the first mean (and at a warm
            start, if it beats the last plan).
    """

    name: ClassVar[str] = "cem"
    decision_iterations: ClassVar[int] = 4

    samples: int = 64
    elites: int = 8
    init_scale: float = 0.5
    floor: float = 0.01
    correlation: float = 0.0
    screen: int = 32

    def __post_init__(self) -> None:
        at_least(self, 2, "samples")
        at_least(self, 1, "elites")
        if self.elites > self.samples:
            raise ValueError(f"CEM.elites: expected at most samples = {self.samples}, got {self.elites}")
        positive(self, "init_scale")
        at_least(self, 0, "floor", "screen")
        fraction(self, "correlation")

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> CEMState:
        keys = keys.to(problem.goal.device)
        if start is None:
            start = starting_plan(problem, split(keys, 2), self.screen, self.init_scale, self.correlation)
        return CEMState(keys, start, torch.full_like(start, self.init_scale), unscored(problem, start))

    def step(self, problem: Problem, state: CEMState) -> CEMState:
        noise = smooth_noise(problem, split(state.keys, 0), self.samples - 1, self.correlation).unsqueeze(1)
        mean, deviation, actions, states, cost = cem_round(
            problem, state.mean.unsqueeze(1), state.deviation.unsqueeze(1), noise, self.elites, self.floor
        )
        best = state.best.update(actions, states, cost)
        return CEMState(split(state.keys, 1), mean.squeeze(1), deviation.squeeze(1), best)

    def evaluate(self, problem: Problem, state: CEMState) -> CEMState:
        best, _, _ = score(problem, state.best, state.mean.unsqueeze(1))
        return replace(state, best=best)

    def shift(self, problem: Problem, state: CEMState, n: int) -> CEMState:
        """Start around the shifted best plan at full deviation: a narrow one could not react to the news."""
        mean, best = shifted_plan(problem, state.best, state.mean, n, split(state.keys, 2), self.screen)
        return CEMState(split(state.keys, 1), mean, torch.full_like(mean, self.init_scale), best)

    def plan(self, problem: Problem, state: CEMState) -> Plan:
        return make_plan(problem, state.best)
