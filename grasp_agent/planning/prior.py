"""The policy prior alone: one plan that the model proposes, with no search. It tells how much planning adds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from grasp_agent.core.capabilities import proposes
from grasp_agent.core.rng import split
from grasp_agent.core.rows import where_rows
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.combine.multi_start import MultiStart, Search
from grasp_agent.planning.plans import Plans, Start
from grasp_agent.planning.solvers.solver import AnySolver, Solver


@dataclass(frozen=True)
class Stay(Solver[Start]):
    """Leaves its plan as it is."""

    name: ClassVar[str] = "stay"

    def init(self, problem: Problem, start: Start, keys: Tensor) -> Start:
        return Start(start.actions, start.states, start.cost)

    def step(self, problem: Problem, state: Start) -> tuple[Start, Plans | None]:
        return state, None

    def current(self, problem: Problem, state: Start) -> Start:
        return state


@dataclass(frozen=True)
class Prior(MultiStart):
    """Executes what the model proposes; at every decision a new proposal is drawn.

    Raises:
        ValueError: when planning begins, if the model makes no proposals.
    """

    solver: AnySolver = Stay()
    restarts: int = 1
    candidates: int = 1
    refresh: int = 0
    iterations: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.restarts, self.candidates) != (1, 1):
            raise ValueError("Prior: expected one restart and one candidate, since it does not search; try MultiStart")

    def begin(self, problem: Problem, keys: Tensor) -> Search:
        if not proposes(problem.model):
            raise ValueError("Prior: expected a world model that proposes plans, got one that does not; try GRASP()")
        return super().begin(problem, keys)

    def shift(self, problem: Problem, search: Search, steps: int) -> Search:
        return self.begin(problem, split(search.keys, 3))

    def finish(self, problem: Problem, search: Search) -> Plan:
        """The proposal, whatever it costs; zero actions where the model cannot tell what it would lead to."""
        nothing = where_rows(search.kept.cost[:, 0].isfinite(), search.kept, search.nothing)
        return super().finish(problem, replace(search, nothing=nothing))
