"""The vocabulary every other module shares: problems, plans, statuses and the two protocols planners need.

Shape letters, the same everywhere:

    B   problems (batch rows)            h   frames of history the model reads
    R   restarts per problem             T   planning horizon, in model steps
    N   any flat batch, e.g. B * R * T   S   shape of one latent state, e.g. (6,) or (196, 384)
    k   action block: environment steps per model step
    A   numbers in one block of actions = action_dim * k
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from torch import Tensor

from grasp_agent.core.checks import at_least, positive_or_none

Observation = Tensor | Mapping[str, Tensor]


@runtime_checkable
class WorldModel(Protocol):
    """A learned latent dynamics model: what an observation is, and what an action does to it.

    What else a model may offer is in `grasp_agent.core.capabilities`.
    """

    state_shape: tuple[int, ...]
    """Shape S of one latent state."""
    history: int
    """h: how many past states `predict` reads, the present one included."""
    action_dim: int
    """Numbers in one environment action."""
    action_block: int
    """k: environment steps that one model step spans; history frames are k environment steps apart."""

    def encode(self, obs: Observation) -> Tensor:
        """Encode observations [B, ...] (images are uint8 [B, height, width, 3]) to latents [B, *S]."""
        ...

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """Advance one model step.

        Args:
            states: [N, h, *S], oldest first; `states[:, -1]` is the present.
            actions: [N, h, A] in environment units; `actions[:, -1]` is the block about to be executed and
                `actions[:, :-1]` the blocks that led from each history state to the next.

        Returns:
            The next latent, [N, *S].
        """
        ...


@runtime_checkable
class Objective(Protocol):
    """What a plan is judged by. All costs are per row, lower is better."""

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """Cost of being in `states` [N, *S] when `goal` [N, *S] is wanted -> [N]."""
        ...

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Cost of predicted `states` [N, T, *S] reached by `actions` [N, T, A] with `goal` [N, *S] -> [N]."""
        ...


class Status(IntEnum):
    """How a plan came out; a plan that fell short is a status, never an exception."""

    RUNNING = 0
    """The budget ended first; the plan is the best seen so far (the usual case in closed loop)."""
    CONVERGED = 1
    """The cost stopped improving before the budget ended."""
    NON_FINITE = 2
    """No finite cost was found (check observation and model); the actions are zeros clipped to the bounds."""


@dataclass(frozen=True)
class Problem:
    """B independent planning problems posed to one world model.

    Attributes:
        model: the world model.
        objective: what a plan is judged by.
        states: the last h encoded observations, oldest first, [B, h, *S].
        past_actions: the h - 1 blocks between them in environment units, [B, h - 1, A].
        goal: encoded goals, [B, *S].
        horizon: T, model steps to plan.
        low: lower action bound per number of a block, environment units, [A].
        high: upper action bound, [A].
    """

    model: WorldModel
    objective: Objective
    states: Tensor
    past_actions: Tensor
    goal: Tensor
    horizon: int
    low: Tensor
    high: Tensor

    @property
    def batch(self) -> int:
        return self.states.shape[0]

    @property
    def action_size(self) -> int:
        """A: numbers in one action block."""
        return self.low.shape[0]


@dataclass(frozen=True)
class Plan:
    """What a planner returns for B problems.

    Attributes:
        actions: within the bounds, environment units, [B, T, A].
        states: the model's rollout of `actions` from the present state, [B, T + 1, *S].
        cost: the objective's true rollout cost of `actions`, [B].
        status: a `Status` value per row, [B].
        defects: mean squared gap between the planner's virtual states and one-step predictions from them,
            [B, T] (all zero for planners without virtual states).
        restarts: true rollout cost of the cheapest plan of each restart, [B, R].
        restart: the restart that the plan is from, [B].
        cost_trace: best true rollout cost known before the first iteration, after each, and in the end,
            [B, iterations + 2].
        iterations: planner iterations spent.
        seconds: wall-clock time spent.
    """

    actions: Tensor
    states: Tensor
    cost: Tensor
    status: Tensor
    defects: Tensor
    restarts: Tensor
    restart: Tensor
    cost_trace: Tensor
    iterations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """When to stop planning: whichever of the limits comes first.

    Attributes:
        iterations: planner iterations, at least 1.
        seconds: wall-clock limit; None means no limit.
        patience: a row has converged after this many iterations in which its best cost fell by less than
            `tolerance` of itself; None never stops early.
        tolerance: relative fall of the cost that still counts as progress.
    """

    iterations: int = 100
    seconds: float | None = None
    patience: int | None = None
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        at_least(self, 1, "iterations", "patience")
        at_least(self, 0, "tolerance")
        positive_or_none(self, "seconds")
