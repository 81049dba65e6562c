"""What planners that improve several plans side by side have in common: where the plans begin, first and later."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from grasp_agent.core.checks import at_least, fraction
from grasp_agent.core.types import Problem
from grasp_agent.planning.solve import Best
from grasp_agent.planning.warm_start import WarmStart, initial_actions, shift_restarts


@dataclass(frozen=True)
class Restarts:
    """Plans improved side by side.

    Attributes:
        restarts: R, how many; they begin from what the model proposes, if it does, else from zero actions and random
            plans.
        init_scale: standard deviation of random plans, in half-ranges of the action.
        correlation: of a random action with the one an environment step later.
        refresh: restarts, never the first, that begin anew at every warm start.
        screen: proposals or random plans rolled out for each one that a restart begins from; 0 asks the model neither
            for proposals nor for their cost.
    """

    restarts: int = 8
    init_scale: float = 0.5
    correlation: float = 0.9
    refresh: int = 4
    screen: int = 8

    def __post_init__(self) -> None:
        at_least(self, 1, "restarts")
        at_least(self, 0, "init_scale", "refresh", "screen")
        fraction(self, "correlation")

    def beginnings(self, problem: Problem, keys: Tensor, start: Tensor | None) -> Tensor:
        """Plans to begin from, the first of them `start` [B, T, A] if it is given: [B, R, T, A]."""
        return initial_actions(problem, keys, self.restarts, self.init_scale, self.correlation, self.screen, start)

    def warm_starts(self, problem: Problem, best: Best, u: Tensor, n: int, keys: Tensor) -> WarmStart:
        """Plans to go on from, `n` environment steps later; see `shift_restarts`."""
        return shift_restarts(problem, best, u, n, keys, self.refresh, self.init_scale, self.correlation, self.screen)
