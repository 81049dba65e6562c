"""What docs/reliability.md promises about repeating a computation: the same to the bit, or to a tolerance.

That results do not depend on the number of workers is tested with the runner (test_workers_play_the_same_episodes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from closed_loop import SQUARE
from dot_world import DotEnv, DotModel
from tiny_model import TINY

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.models import LatentWorldModel
from grasp_agent.planning import PLANNERS

AREA = "promises"
TOLERANCE = 1e-5
"""Of an action in [-1, 1] at one decision from the same observation and the same earlier plan."""
SHIPPED = 1e-4
"""The same, of the shipped model of Push-T: its encoder solves small linear systems."""
ROWS = 5
NAMES = ["grasp", "gd", "gauss_newton", "lbfgs", "cem", "icem", "mppi"]


@pytest.fixture(autouse=True)
def threads_put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def observations() -> dict[str, Any]:
    seen = [DotEnv("pixels").reset(seed=seed)[0] for seed in range(ROWS)]
    return {key: np.stack([one[key] for one in seen]) for key in seen[0]}


def decide(name: str, rows: slice = slice(None), threads: int = 1, tiny: bool = False) -> np.ndarray:
    """The first actions of an agent, of all rows or of some, as if by a program that has just begun."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model: Any = LatentWorldModel(TINY).eval() if tiny else DotModel()
    planner = PLANNERS[name](model)
    agent = MPCAgent(model, SQUARE, planner, horizon=4, budget=Budget(iterations=6), seed=0)
    actions, _ = agent.predict({key: value[rows] for key, value in observations().items()})
    return np.asarray(actions)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_computation_gives_the_same_bits(name: str) -> None:
    for tiny in (False, True):
        first, again = decide(name, tiny=tiny), decide(name, tiny=tiny)
        assert first.tobytes() == again.tobytes()
        assert np.ptp(first) > 0.01, "the rows decide alike, so little is compared"


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_batch_decides_as_it_would_alone_up_to_rounding(name: str) -> None:
    together = decide(name)
    alone = np.concatenate([decide(name, slice(row, row + 1)) for row in range(ROWS)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_rounding_alone(name: str) -> None:
    np.testing.assert_allclose(decide(name, threads=2), decide(name), rtol=0, atol=TOLERANCE)


def test_the_shipped_model_keeps_these_promises_too() -> None:
    env = gym.make("grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=64)
    seen = [env.reset(seed=seed)[0] for seed in range(2)]
    agent = GRASPAgent.from_pretrained("pusht", env.action_space, budget=Budget(iterations=3), seed=0)

    def decided(rows: slice, threads: int = 1) -> np.ndarray:
        torch.set_num_threads(threads)
        return np.asarray(agent.predict({key: np.stack([one[key] for one in seen[rows]]) for key in seen[0]})[0])

    together = decided(slice(None))
    assert together.tobytes() == decided(slice(None)).tobytes()
    alone = np.concatenate([decided(slice(row, row + 1)) for row in range(2)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=SHIPPED)
    np.testing.assert_allclose(together, decided(slice(None), threads=2), rtol=0, atol=SHIPPED)
    env.close()


def test_the_page_names_these_tolerances() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    for tolerance in (TOLERANCE, SHIPPED):
        assert f"less than {tolerance:.0e}".replace("e-0", "e-") in page


def test_the_page_names_tests_that_there_are() -> None:
    root = Path(__file__).parents[2]
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (root / "docs" / "reliability.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}" in (root / file).read_text(), f"{file}::{test}"
