"""Alternate: J iterations of one solver, K of another, and so on, on the same plan.

GRASP alternates the lifted iteration with a serial solver (its "sync"), which improves the actions on the true
objective, through the rollout. At every change the plan is rolled out, if it has not been, and the next solver goes on
from it; it also learns how far the rollout is from the virtual states (`Start.doubt`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from grasp_agent.core.checks import instance_of, is_count, shown
from grasp_agent.core.rng import split
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, Trajectory, doubt_of, joined
from grasp_agent.planning.solvers.solver import AnySolver, Solver


@dataclass(frozen=True)
class AlternateState:
    """Attributes:
    keys: random key per row, [B].
    iteration: iterations so far, [B], on the CPU.
    first: state of the first solver.
    then: state of the second.
    """

    keys: Tensor
    iteration: Tensor
    first: Any
    then: Any


@dataclass(frozen=True)
class Alternate(Solver[AlternateState]):
    """Two solvers that take turns.

    Attributes:
        first: who begins.
        then: who follows.
        steps: iterations of each in a turn.
    """

    first: AnySolver
    then: AnySolver
    steps: tuple[int, int] = field(default=(1, 1))

    def __post_init__(self) -> None:
        for name in ("first", "then"):
            expected = "a solver of one plan per row such as GaussNewton()"
            instance_of(f"Alternate.{name}", getattr(self, name), Solver, expected)  # type: ignore[type-abstract]
        pair = isinstance(self.steps, tuple | list) and len(self.steps) == 2
        if not pair or not all(is_count(n, 1) for n in self.steps):
            raise ValueError(f"Alternate.steps: expected two whole numbers of at least 1, got {shown(self.steps)}")

    @property
    def decision_iterations(self) -> int:
        return sum(self.steps)

    def init(self, problem: Problem, start: Start, keys: Tensor) -> AlternateState:
        return AlternateState(
            keys=split(keys, 0),
            iteration=torch.zeros(len(keys), dtype=torch.int64),
            first=self.first.init(problem, start, split(keys, 1)),
            then=self.then.init(problem, start, split(keys, 2)),
        )

    def step(self, problem: Problem, state: AlternateState) -> tuple[AlternateState, Plans | None]:
        i = int(state.iteration[0])
        found = None
        if i and i % sum(self.steps) in (0, self.steps[0]):
            state, found = self._handed_over(problem, state, i)
        name = "then" if self._second(i) else "first"
        inner, plans = self._solver(name).step(problem, getattr(state, name))
        state = replace(state, iteration=state.iteration + 1, **{name: inner})
        made = [part for part in (found, plans) if part is not None]
        return state, joined(*made) if made else None

    def _handed_over(self, problem: Problem, state: AlternateState, i: int) -> tuple[AlternateState, Plans]:
        """Let the solver whose turn iteration i is go on from the plan of the other one."""
        old, new = ("first", "then") if self._second(i) else ("then", "first")
        start = self._solver(old).current(problem, getattr(state, old))
        trajectory = self._solver(old).trajectory(problem, getattr(state, old))
        if trajectory is not None:
            start = replace(start, doubt=doubt_of(problem, trajectory, start))
        inner = self._solver(new).restart(problem, getattr(state, new), start, split(split(state.keys, 0), i))
        return replace(state, **{new: inner}), start.as_plans

    def current(self, problem: Problem, state: AlternateState) -> Start:
        name = self._latest(state)
        return self._solver(name).current(problem, getattr(state, name))

    def restart(self, problem: Problem, state: AlternateState, start: Start, keys: Tensor) -> AlternateState:
        name = self._latest(state)
        return replace(state, **{name: self._solver(name).restart(problem, getattr(state, name), start, keys)})

    def shift(self, problem: Problem, state: AlternateState, start: Start, keys: Tensor, steps: int) -> AlternateState:
        return AlternateState(
            keys=split(keys, 0),
            iteration=torch.zeros(len(keys), dtype=torch.int64),
            first=self.first.shift(problem, state.first, start, split(keys, 1), steps),
            then=self.then.shift(problem, state.then, start, split(keys, 2), steps),
        )

    def holds(self, state: Any) -> bool:
        if not isinstance(state, AlternateState):
            return False
        return self.first.holds(state.first) and self.then.holds(state.then)

    def trajectory(self, problem: Problem, state: AlternateState) -> Trajectory | None:
        for name in ("first", "then"):
            found = self._solver(name).trajectory(problem, getattr(state, name))
            if found is not None:
                return found
        return None

    def _second(self, i: int) -> bool:
        """Whether iteration i is one of the second solver's."""
        return i % sum(self.steps) >= self.steps[0]

    def _latest(self, state: AlternateState) -> str:
        """Whose turn the latest iteration was."""
        return "then" if self._second(max(int(state.iteration[0]) - 1, 0)) else "first"

    def _solver(self, name: str) -> AnySolver:
        solver: AnySolver = getattr(self, name)
        return solver
