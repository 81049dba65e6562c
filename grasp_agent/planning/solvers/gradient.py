"""Gradient descent on the actions through the serial rollout (GD, "shooting with gradients").

    minimise over u:  C(s_1, ..., s_T, a),   s_{t+1} = F(s_t, a_t),   a = middle + half_range * u,   u in [-1,
    1] u <- clip(u - eta * dC/du, -1, 1)

The whole rollout is differentiated, T model calls in sequence each way. R restarts descend side by side in
the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import choice, positive, positive_or_none
from grasp_agent.core.rng import split
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.restarts import Restarts
from grasp_agent.planning.rollout import zero_plan
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.solvers.descent import (
    OPTIMIZERS,
    Moments,
    Optimizer,
    clipped,
    descent,
    no_moments,
    rollout_gradient,
)


@dataclass(frozen=True)
class GradientState:
    """Attributes:
    keys: random key per row, [B].
    actions: u, normalised, [B, R, T, A].
    moments: the optimiser's memory of u.
    cost: true rollout cost of each restart when it was last scored, [B, R].
    best: best plan scored so far.
    """

    keys: Tensor
    actions: Tensor
    moments: Moments
    cost: Tensor
    best: Best


@dataclass(frozen=True)
class GradientDescent(Restarts):
    """Gradient descent through the rollout. How plans begin is in `Restarts`.

    Attributes:
        rate: eta, in half-ranges of the action.
        optimizer: "adam" or "sgd".
        clip: longest gradient per restart; None does not clip.
    """

    name: ClassVar[str] = "gd"
    decision_iterations: ClassVar[int] = 7

    rate: float = 0.1
    optimizer: Optimizer = "adam"
    clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rate")
        positive_or_none(self, "clip")
        choice(self, "optimizer", OPTIMIZERS)

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> GradientState:
        keys = keys.to(problem.goal.device)
        u = self.beginnings(problem, split(keys, 0), start)
        best = unscored(problem, zero_plan(problem) if start is None else start)
        return GradientState(split(keys, 1), u, no_moments(self.optimizer, u), u.new_full(u.shape[:2], torch.inf), best)

    def step(self, problem: Problem, state: GradientState) -> GradientState:
        gradient, cost, states = rollout_gradient(problem, state.actions)
        change, moments = descent(self.optimizer, self.rate, clipped(gradient, self.clip), state.moments)
        best = state.best.update(state.actions, states, cost)
        return replace(state, actions=(state.actions + change).clamp_(-1, 1), moments=moments, cost=cost, best=best)

    def evaluate(self, problem: Problem, state: GradientState) -> GradientState:
        best, _, cost = score(problem, state.best, state.actions)
        return replace(state, cost=cost, best=best)

    def shift(self, problem: Problem, state: GradientState, n: int) -> GradientState:
        warm = self.warm_starts(problem, state.best, state.actions, n, split(state.keys, 0))
        moments = no_moments(self.optimizer, warm.actions)
        return GradientState(split(state.keys, 1), warm.actions, moments, warm.cost, warm.best)

    def plan(self, problem: Problem, state: GradientState) -> Plan:
        return make_plan(problem, state.best, restarts=state.cost)
