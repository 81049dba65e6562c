"""Success under a name of the environment's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from grasp_agent.evaluation import evaluate
from grasp_agent.rollouts.environments import make_env


class Corridor(gym.Env[Any, Any]):
    """Success is called "arrived", and comes with the third step."""

    observation_space = spaces.Box(0, 9, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.array([self.count], np.float32), -1.0, False, self.count == 4, {"arrived": np.bool_(self.count == 3)}


ENV = "NamedCorridor-v0"
gym.register(ENV, lambda: Corridor())


def test_it_is_told_under_the_usual_name() -> None:
    env = make_env(ENV, success_key="arrived")
    env.reset(seed=0)
    told = [env.step(np.zeros(1, np.float32))[4]["is_success"] for _ in range(4)]
    assert told == [False, False, True, False] and all(type(one) is bool for one in told)


def test_with_repeated_actions_a_success_in_between_counts() -> None:
    env = make_env(ENV, success_key="arrived", repeat_action=2)
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[4]["is_success"] for _ in range(2)] == [False, True]


def test_evaluations_count_it() -> None:
    rows = evaluate({"zero": "zero"}, ENV, range(2), env_kwargs={"success_key": "arrived"}, progress=False).rows
    assert [(row.success, row.success_final, row.steps_to_success) for row in rows] == [(True, False, 3)] * 2
    assert all(row.success is None for row in evaluate({"zero": "zero"}, ENV, range(2), progress=False).rows)


def test_a_name_that_is_not_told_is_one_sentence() -> None:
    env = make_env(ENV, success_key="reached")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="success_key: expected 'reached' in the info of a step, got 'arrived'"):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(TypeError, match="success_key: expected the name of an entry of info, got 3"):
        make_env(ENV, success_key=3)
