"""What a time limit is worth: seconds per iteration of every planner, turned into numbers of iterations.

    n(budget) = the most iterations with  fixed + t_1 + ... + t_n <= budget,  at least 1

For one problem on one thread, fixed is what planning costs before the first and after the last iteration (encoding,
the starting plans, their scores, the final score) and t_i the time of the i-th iteration: planners that alternate
between kinds of iteration have no single figure. Processor time is measured: on one thread it is what the wall clock
shows on a quiet machine, whatever else runs meanwhile. The planners take turns in rounds, and every figure is the
median over the rounds, so that what a busy neighbour does to caches and clock hits all alike and none for good.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.benchmark.episodes import Contestant, Episodes
from grasp_agent.core.types import Budget, WorldModel
from grasp_agent.files.atomic import write_text
from grasp_agent.files.digest import json_sha256
from grasp_agent.files.reading import read_json
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import begin, iterate, shift
from grasp_agent.planning.solve import finish
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.workers import one_thread

ROUNDS = 3
LONGEST = 0.5
"""Seconds of iterations measured per round; beyond them the mean iteration counts."""
WARM_DECISIONS = 3
_FILE_LIMIT = 100_000_000
SEED = 0
"""Of the episode whose problem is planned for; which one makes no difference to the time."""


@dataclass(frozen=True)
class Timing:
    """How long a planner takes for one problem.

    Attributes:
        fixed: seconds spent whatever the number of iterations.
        steps: seconds of the first, second, ... iteration.
    """

    fixed: float
    steps: tuple[float, ...]
    _sums: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.fixed, *self.steps)))
        if not finite or not self.steps or min(self.steps) <= 0 or self.fixed < 0:
            raise ValueError(
                f"Timing: expected positive seconds of one iteration or more, got {self.fixed}, {self.steps}"
            )
        object.__setattr__(self, "_sums", np.concatenate([[0.0], np.cumsum(self.steps)]))

    @property
    def per_iteration(self) -> float:
        """Mean seconds of an iteration."""
        return float(self._sums[-1] / len(self.steps))

    def seconds(self, iterations: int) -> float:
        """What planning with so many iterations takes."""
        measured = min(iterations, len(self.steps))
        return float(self.fixed + self._sums[measured] + (iterations - measured) * self.per_iteration)

    def iterations(self, budget: float) -> int:
        """How many iterations fit into `budget` seconds, at least 1."""
        left = budget - self.fixed
        fitting = int(np.searchsorted(self._sums, left, side="right")) - 1
        if fitting == len(self.steps):
            fitting += int((left - self._sums[-1]) / self.per_iteration)
        return max(1, fitting)

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {"fixed": self.fixed, "per_iteration": self.per_iteration, "steps": list(self.steps)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Timing:
        return cls(float(content["fixed"]), tuple(float(seconds) for seconds in content["steps"]))


def write_timings(path: Path, timings: Mapping[str, Timing]) -> None:
    """Note measurements by names that say in JSON what was measured, and their digest."""
    content = {name: timing.to_json() for name, timing in timings.items()}
    write_text(path, json.dumps({"sha256": json_sha256(content), "timings": content}, indent=1) + "\n")


def read_timings(path: Path) -> dict[str, Timing]:
    """The measurements noted in a file, which may be missing.

    Raises:
        ValueError: the file holds something else, or was changed.
    """
    try:
        if not path.exists():
            return {}
        content = read_json(path, limit=_FILE_LIMIT)
        noted = content["timings"]
        if content["sha256"] != json_sha256(noted):
            raise ValueError("its SHA-256 differs")
        for name in noted:
            dict(json.loads(name))
        return {name: Timing.from_json(content) for name, content in noted.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected the measurements of an earlier run, got something else ({type(error).__name__}:"
            f" {error}); use another --out, or remove this one"
        ) from None


@contextmanager
def computing_alone() -> Iterator[None]:
    """Compute as the benchmark's processes do meanwhile."""
    precision = torch.get_float32_matmul_precision()
    with one_thread():
        compute_alone()
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


def compute_alone() -> None:
    """Compute with one thread, and with oneDNN's products of matrices: on AMD twice as fast as the usual ones for large
    batches, and as exact; on an Intel CPU with AMX they round their factors to bfloat16."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")


class _Bench:
    """A contestant with one problem, ready to be timed.

    Args:
        contestant: who plans.
        where: the environment.
        world_model: what predicts.
        horizon: H.
        warm: whether planning begins from a previous plan, as an agent's does.
        limit: seconds of iterations that are worth measuring.
    """

    def __init__(
        self, contestant: Contestant, where: GoalEnv, world_model: WorldModel, horizon: int, warm: bool, limit: float
    ) -> None:
        self.planner, self.warm, self.limit = contestant.planner, warm, min(limit, LONGEST)
        self.model = CountingModel(world_model, contestant.proposals)
        self.episodes = Episodes(where, self.model, horizon, [SEED])
        self.count: int | None = None
        """Iterations of a round, the same in every round."""

    def warm_up(self) -> None:
        """A round that does not count: what is done for the first time takes longer, and would fill a short limit."""
        self.round()
        self.count = None

    def round(self) -> tuple[float, list[float]]:
        """Measure the fixed seconds, and the seconds of each iteration."""
        began = time.process_time()
        problem = self.episodes.problem(self.planner, GoalDistance())
        search = begin(self.planner, problem, torch.tensor([SEED]))
        if self.warm:
            search = shift(self.planner, problem, search, 1)
        steps: list[float] = []
        loop = iterate(self.planner, problem, Budget(iterations=1_000_000), search=search)
        search = next(loop).search
        started = time.process_time()
        while (sum(steps) < self.limit) if self.count is None else (len(steps) < self.count):
            before = time.process_time()
            search = next(loop).search
            steps.append(time.process_time() - before)
        self.count = len(steps)
        stopped = time.process_time()
        finish(self.planner, problem, search)
        if self.warm:
            return max(0.0, self._decision(problem.horizon) - steps[0]), steps
        return started - began + time.process_time() - stopped, steps

    def _decision(self, horizon: int) -> float:
        """Time an agent's decision of one iteration with a previous plan to begin from."""
        agent, seconds = self.episodes.agent(self.planner, None, horizon, 1), []
        observation, state = self.episodes.seen, None
        for _ in range(
            1 + WARM_DECISIONS
        ):  # standing still: where the decision is made makes no difference to its time
            before = time.process_time()
            _, state = agent.predict(observation, state)
            seconds.append(time.process_time() - before)
        return float(np.median(seconds[1:]))

    def close(self) -> None:
        self.episodes.__exit__()


def calibrate(
    contestants: Mapping[str, Contestant],
    where: GoalEnv,
    world_model: WorldModel,
    horizons: Sequence[int],
    warm: bool,
    limit: float,
    on_round: Callable[[], None] = lambda: None,
) -> dict[tuple[str, int], Timing]:
    """Time every contestant at every horizon.

    Args:
        contestants: who plans, by name.
        where: the environment.
        world_model: what predicts.
        horizons: H, environment steps to plan for.
        warm: time decisions of an agent that has a previous plan, instead of single plans.
        limit: the time limit in seconds that is to be turned into iterations.
        on_round: called after each contestant's turn, 1 + ROUNDS times for each name and horizon.

    Returns:
        Timings by name and horizon.
    """
    measured: dict[tuple[str, int], list[tuple[float, list[float]]]] = {}
    for horizon in horizons:  # one at a time: everybody's environments and models at once would fill the caches
        benches = {name: _Bench(c, where, world_model, horizon, warm, limit) for name, c in contestants.items()}
        with computing_alone():
            for turn in range(1 + ROUNDS):
                for name, bench in benches.items():
                    if turn == 0:
                        bench.warm_up()
                    else:
                        measured.setdefault((name, horizon), []).append(bench.round())
                    on_round()
        for bench in benches.values():
            bench.close()
    return {
        key: Timing(
            float(np.median([fixed for fixed, _ in rounds])),
            tuple(float(step) for step in np.median([steps for _, steps in rounds], axis=0)),
        )
        for key, rounds in measured.items()
    }
