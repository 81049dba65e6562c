"""Actions that last for several steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.rollouts.environments import make_env
from grasp_agent.tasks.task import RENDERED


class Counter(gym.Env[Any, Any]):
    """Shows how many steps there were; each earns its number; the seventh ends the episode; the fifth is a success."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.count = self.drawn = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation = np.array([self.count], np.float32)
        return observation, float(self.count), self.count == 7, False, {"is_success": self.count == 5}

    def render(self) -> Any:
        self.drawn += 1
        return np.full((8, 8, 3), self.count, np.uint8)


ENV = "RepeatCounter-v0"
gym.register(ENV, lambda **kwargs: Counter(**kwargs))


def test_rewards_add_up_and_the_last_observation_is_shown() -> None:
    env = make_env(ENV, repeat_action=3)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert (observation[0], reward, terminated, truncated) == (3, 1 + 2 + 3, False, False)
    assert info == {"is_success": False}
    observation, reward, _, _, info = env.step(np.zeros(1, np.float32))
    assert (observation[0], reward) == (6, 4 + 5 + 6)
    assert info == {"is_success": True}, "the fifth step was one, though not the last"
    observation, reward, terminated, _, info = env.step(np.zeros(1, np.float32))
    assert (observation[0], reward, terminated) == (7, 7, True), "the episode ends in its middle"
    assert info == {"is_success": False}, "earlier successes are told where they were"


def test_only_the_last_step_is_drawn() -> None:
    env = make_env(ENV, repeat_action=3, **{RENDERED: 8})
    env.reset(seed=0)
    counter = env.unwrapped
    assert isinstance(counter, Counter)
    before = counter.drawn
    frame, *_ = env.step(np.zeros(1, np.float32))
    assert counter.drawn == before + 1 and (frame == 3).all()


def test_data_are_recorded_so_and_say_it(tmp_path: Path) -> None:
    settings = CollectSettings(
        (ENV,), 20, policy="random", shard_steps=20, env_kwargs=(("repeat_action", 3),), episode_length=10
    )
    data = EpisodeDataset(collect(settings, tmp_path / "data", workers=1))
    assert data.vectors is not None and data.rewards is not None
    assert data.vectors[: data.lengths[0], 0].tolist() == [0, 3, 6, 7]
    assert ["repeat_action", 3] in [list(argument) for argument in data.settings[0]["env_kwargs"]]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (0, ValueError, "repeat_action: expected 1 to 1000 steps, got 0; try 4"),
        (10**6, ValueError, "repeat_action: expected 1 to 1000 steps, got 1000000"),
        ("four", TypeError, "repeat_action: expected a whole number of steps, got 'four'"),
        (True, TypeError, "repeat_action: expected a whole number of steps, got True"),
    ],
)
def test_odd_numbers_are_refused(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make_env(ENV, repeat_action=given)
