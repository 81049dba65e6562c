"""What a solver is: a trajectory optimiser that improves one plan per row.

A solver is a frozen dataclass of hyperparameters. What it knows about B problems is an explicit state, a frozen
dataclass whose leaves are all tensors [B, ...], so that rows can be picked, dropped and replaced. There are no
restarts, no loop and no best-so-far inside: `MultiStart` runs many plans side by side, keeps the cheapest by true
rollout cost, and `solve` iterates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from torch import Tensor

from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, Trajectory

State = TypeVar("State")


class Solver(ABC, Generic[State]):
    """One plan per row, improved step by step."""

    name: ClassVar[str] = "solver"
    """What users call it."""

    @property
    def decision_iterations(self) -> int:
        """Iterations an agent spends on a decision when it is given no budget."""
        return 10

    @abstractmethod
    def init(self, problem: Problem, start: Start, keys: Tensor) -> State:
        """The state before the first iteration.

        Args:
            problem: B problems.
            start: the plan of each row to improve, rolled out.
            keys: one random key per row, [B], on the problem's device.
        """

    @abstractmethod
    def step(self, problem: Problem, state: State) -> tuple[State, Plans | None]:
        """One iteration -> the state after it, and the plans that it rolled out, if any: [B, M]."""

    @abstractmethod
    def current(self, problem: Problem, state: State) -> Start:
        """The plan that the solver stands at, rolled out."""

    def restart(self, problem: Problem, state: State, start: Start, keys: Tensor) -> State:
        """Go on from another plan. Solvers whose memory is worth keeping say how; others begin anew."""
        return self.init(problem, start, keys)

    def shift(self, problem: Problem, state: State, start: Start, keys: Tensor, steps: int) -> State:
        """Go on when time has moved on: the problem begins `steps` environment steps after that of `state`."""
        return self.init(problem, start, keys)

    def holds(self, state: Any) -> bool:
        """Whether a state, with rows of any kind, is of the type that this solver is declared with.

        Solvers whose settings decide the state's shape look at that as well.
        """
        bases = getattr(type(self), "__orig_bases__", ())
        declared = [get_args(base)[0] for base in bases if get_origin(base) is Solver]
        return all(isinstance(state, kind) for kind in declared if isinstance(kind, type))

    def trajectory(self, problem: Problem, state: State) -> Trajectory | None:
        """The virtual states of solvers that have any."""
        return None


AnySolver = Solver[Any]
