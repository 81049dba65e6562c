"""A solver without a purpose: it changes all actions alike, and writes down what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, Trajectory, scored_start
from grasp_agent.planning.solvers.solver import Solver


@dataclass(frozen=True)
class WalkerState:
    """Attributes:
    keys: the keys it began with, [B].
    actions: [B, T, A].
    count: steps so far, [B].
    """

    keys: Tensor
    actions: Tensor
    count: Tensor


@dataclass(frozen=True)
class Walker(Solver[WalkerState]):
    """Adds `change` to every action at every step.

    Attributes:
        change: what is added.
        label: what it signs its notes with.
        log: notes of what it was asked, for all walkers that share the list.
        scores: whether it rolls out where it stands.
        gap: how far its virtual states are from the rollout in every number; None: it has none.
    """

    change: float = 0.01
    label: str = "a"
    log: list[str] = field(default_factory=list)
    scores: bool = False
    gap: float | None = None
    starts: list[Start] = field(default_factory=list)

    def init(self, problem: Problem, start: Start, keys: Tensor) -> WalkerState:
        self.log.append(f"init {self.label}")
        self.starts.append(start)
        return WalkerState(keys, start.actions, torch.zeros_like(keys))

    def step(self, problem: Problem, state: WalkerState) -> tuple[WalkerState, Plans | None]:
        self.log.append(f"step {self.label}")
        moved = WalkerState(state.keys, (state.actions + self.change).clamp(-1, 1), state.count + 1)
        return moved, self.current(problem, moved).as_plans if self.scores else None

    def current(self, problem: Problem, state: WalkerState) -> Start:
        return scored_start(problem, state.actions)

    def restart(self, problem: Problem, state: WalkerState, start: Start, keys: Tensor) -> WalkerState:
        self.log.append(f"restart {self.label}")
        self.starts.append(start)
        return WalkerState(keys, start.actions, state.count)

    def shift(self, problem: Problem, state: WalkerState, start: Start, keys: Tensor, steps: int) -> WalkerState:
        self.log.append(f"shift {self.label} by {steps}")
        self.starts.append(start)
        return WalkerState(keys, start.actions, state.count + 100)

    def trajectory(self, problem: Problem, state: WalkerState) -> Trajectory | None:
        if self.gap is None:
            return None
        return Trajectory(state.actions, self.current(problem, state).states + self.gap)
