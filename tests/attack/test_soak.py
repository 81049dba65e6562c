"""A thousand short episodes, alone and side by side: memory, file descriptors and objects stay as many as they were."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from attacks import Tally
from closed_loop import make_agent
from dot_world import DotEnv

from grasp_agent.core.types import Budget
from grasp_agent.planning import GradientDescent, MultiStart
from grasp_agent.rollouts.policies import AgentPolicy
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.tasks import task_for

AREA = "soak: 1,000 episodes, alone and in vector"
EPISODES, STEPS, SLOTS = 1000, 1, 10
SMALLEST = {"planner": MultiStart(GradientDescent(), restarts=1), "horizon": 1, "budget": Budget(iterations=1)}
WARM_UP = 100
ATTEMPTS = 3
MEGABYTES = 3.0
"""What memory may grow by after the warm-up: the allocator's own."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")


def measured() -> tuple[float, int, int]:
    """Megabytes in use, open files, and objects that Python knows of."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")), len(gc.get_objects())


def alone(first: int, last: int) -> None:
    agent, env = make_agent(**SMALLEST), DotEnv("pixels", limit=STEPS)
    for seed in range(first, last):
        observation, _ = env.reset(seed=seed)
        agent.reset()
        for _ in range(STEPS):
            observation, *_ = env.step(agent.act(observation))
    env.close()


def in_vector(first: int, last: int) -> None:
    agent = make_agent(**SMALLEST)
    envs = [DotEnv("pixels", limit=STEPS) for _ in range(SLOTS)]
    episodes = [Episode(number, seed=number, policy_seed=number) for number in range(first, last)]
    steps = sum(step.number > 0 for step in play(AgentPolicy(agent, task_for("tests/Dot-v0")), envs, episodes))
    assert steps == STEPS * (last - first)


@pytest.mark.parametrize("repeats", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("soak", [alone, in_vector], ids=lambda soak: soak.__name__)
def test_nothing_grows(soak: Callable[[int, int], None], repeats: int, tally: Tally) -> None:
    soak(0, WARM_UP)
    # A leak grows every time. What the allocator keeps for itself, after other tests too, does not.
    for _ in range(ATTEMPTS):
        before = measured()
        for repeat in range(repeats):
            soak(repeat * EPISODES, (repeat + 1) * EPISODES)
        grown = np.subtract(measured(), before)
        flat = bool(grown[0] <= MEGABYTES and grown[1] == 0 and grown[2] <= 100)
        if flat:
            break
    tally.held += EPISODES * repeats - 1
    tally.judge(f"{soak.__name__}: {grown[0]:.1f} MB, {grown[1]} files, {grown[2]} objects more", same=flat, named=())


def test_a_leak_would_be_noticed() -> None:
    before = measured()
    kept = [np.ones(10_000_000), open("/dev/null")]  # noqa: SIM115
    after = measured()
    kept[1].close()  # type: ignore[union-attr]
    assert after[0] - before[0] > MEGABYTES and after[1] == before[1] + 1
