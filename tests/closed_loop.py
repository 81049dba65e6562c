"""What the tests of the agent share: agents of the dot world, an episode, and a planner that writes down what it
is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from dot_world import DotEnv, DotModel
from gymnasium import spaces
from torch import Tensor

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget, Plan, Problem
from grasp_agent.planning import GradientDescent, MultiStart, Search
from grasp_agent.planning.plans import Start, score
from grasp_agent.planning.prior import Stay
from grasp_agent.planning.solvers.solver import AnySolver

SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)
PLANNER = MultiStart(GradientDescent(), restarts=2, candidates=1, refresh=1)


def make_agent(model: Any = None, **options: Any) -> MPCAgent:
    """An agent of the dot world with a small planner."""
    options = {"planner": PLANNER, "horizon": 4, "budget": Budget(iterations=5), **options}
    return MPCAgent(DotModel() if model is None else model, SQUARE, **options)


def play(agent: MPCAgent, env: DotEnv, seed: int, goal_from_info: bool = False) -> tuple[list[np.ndarray], bool, float]:
    """An episode with `act`: actions, success at the end, return."""
    observation, info = env.reset(seed=seed)
    agent.reset(goal=info["goal"] if goal_from_info else None)
    actions, total, done = [], 0.0, False
    while not done:
        actions.append(agent.act(observation))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        total += reward
        done = terminated or truncated
    return actions, info["is_success"], total


def vector(*numbers: float) -> dict[str, np.ndarray]:
    """A batch of state observations (x, 0), one for each number, with the goal at the origin."""
    points = np.array([[number, 0.0] for number in numbers])
    return {"observation": points, "desired_goal": np.zeros_like(points)}


@dataclass(frozen=True)
class Script(MultiStart):
    """Plans 0.1 * (warm starts so far) + 0.01 * (number in the flat plan), in half-ranges of the action.

    Attributes:
        problems: every problem that a plan was begun or shifted for.
        shifts: environment steps and rows of every warm start.
    """

    solver: AnySolver = Stay()
    restarts: int = 1
    candidates: int = 0
    refresh: int = 0
    iterations: int | None = 1
    problems: list[Problem] = field(default_factory=list)
    shifts: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, problem: Problem, keys: Tensor) -> Search:
        count = problem.horizon * problem.action_size
        flat = 0.01 * torch.arange(count, dtype=problem.goal.dtype).expand(problem.batch, count)
        return self._at(problem, keys, flat.view(problem.batch, 1, problem.horizon, problem.action_size))

    def shift(self, problem: Problem, search: Search, steps: int) -> Search:
        self.shifts.append((steps, problem.batch))
        return self._at(problem, search.keys, search.kept.actions + 0.1)

    def finish(self, problem: Problem, search: Search) -> Plan:
        """The script, whatever it costs."""
        return super().finish(problem, Search(search.keys, search.iteration, search.inner, search.kept, search.kept))

    def _at(self, problem: Problem, keys: Tensor, u: Tensor) -> Search:
        self.problems.append(problem)
        plans = score(problem, u)
        iteration = torch.zeros(problem.batch, dtype=torch.int64)
        return Search(keys, iteration, Start(plans.actions, plans.states, plans.cost), plans, plans)
