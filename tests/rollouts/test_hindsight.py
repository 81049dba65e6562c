"""Goals where random actions lead: they can be reached from the same start, and success is told by the pictures."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_agent.evaluation import evaluate
from grasp_agent.rollouts.environments import HINDSIGHT, make_env
from grasp_agent.rollouts.hindsight import HindsightGoal
from grasp_agent.tasks.task import RENDERED


class Line(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A bright bar, two of 32 columns wide, which actions move by up to two columns.

    Args:
        unsteady: the seed does not determine the start.
        stuck: actions move nothing.
        ends: steps after which the episode is over.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(0, 31, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(
        self, render_mode: str | None = None, unsteady: bool = False, stuck: bool = False, ends: int = 99
    ) -> None:
        self.render_mode, self.unsteady, self.stuck, self.ends = render_mode, unsteady, stuck, ends
        self.resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.resets += 1
        self.at, self.time = float(self.np_random.integers(5, 25)) + self.resets * self.unsteady, 0
        return self._seen(), {"is_success": True}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.time += 1
        self.at = float(np.clip(self.at + 2 * float(action[0]) * (not self.stuck), 0, 30))
        return self._seen(), 0.0, self.time >= self.ends, False, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[:, int(self.at) : int(self.at) + 2] = 250
        return picture

    def _seen(self) -> NDArray[np.float32]:
        return np.array([self.at], np.float32)


gymnasium.register("Line-v0", Line)


def test_the_goal_is_where_a_walk_from_the_same_start_ends() -> None:
    env = make_env("Line-v0", **{HINDSIGHT: 4})
    first, info = env.reset(seed=5)
    again, other = env.reset(seed=5)
    assert first == again and info["goal"] == other["goal"] and not info["is_success"]
    start = make_env("Line-v0").reset(seed=5)[0]
    assert first == start and 0 < abs(info["goal"] - start)[0] <= 8
    assert len({float(env.reset(seed=seed)[1]["goal"][0] - env.unwrapped.at) for seed in range(6)}) > 3  # type: ignore[attr-defined]


def test_the_goal_has_the_form_of_the_observations() -> None:
    frame, info = make_env("Line-v0", **{RENDERED: 16, HINDSIGHT: 4}).reset(seed=1)
    assert frame.shape == info["goal"].shape == (16, 16, 3) and frame.dtype == info["goal"].dtype == np.uint8
    assert not np.array_equal(frame, info["goal"])


def test_success_is_told_by_the_pictures() -> None:
    env = make_env("Line-v0", **{HINDSIGHT: 6})
    _, info = env.reset(seed=2)
    goal = float(info["goal"][0])
    line: Any = env.unwrapped
    start = line.at
    assert abs(int(goal) - int(start)) >= 2, "the bars of start and goal do not overlap"
    for place, solved in ((goal, True), (int(goal) + 1, False), (start, False), (31.0 - goal, False)):
        line.at = float(place)
        assert env.step(np.zeros(1, np.float32))[4]["is_success"] is solved
    loose = HindsightGoal(make_env("Line-v0", render_mode="rgb_array"), 6, share=0.6)
    loose.reset(seed=2)
    loose.unwrapped.at = float(int(goal) + 1)  # type: ignore[attr-defined]
    assert loose.step(np.zeros(1, np.float32))[4]["is_success"] is True  # half of the bar is still beside its goal


def test_a_goal_is_no_end_of_an_episode() -> None:
    env = make_env("Line-v0", ends=3, **{HINDSIGHT: 50})
    start, info = env.reset(seed=4)
    assert 0 < abs(info["goal"] - start)[0] <= 4  # two steps, the third ends the episode


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"unsteady": True}, "expected a reset that the seed determines, got another start from seed 3"),
        ({"stuck": True}, "expected random actions to change what is in view, got the start again after 4 steps"),
    ],
)
def test_where_there_can_be_no_goals_it_is_said(kwargs: dict[str, Any], message: str) -> None:
    env = make_env("Line-v0", **{**kwargs, HINDSIGHT: 4})
    with pytest.raises(ValueError, match=message):
        env.reset(seed=3)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="hindsight steps: expected a whole number from 1 to 1000000, got 0"):
        make_env("Line-v0", **{HINDSIGHT: 0})
    with pytest.raises(TypeError, match=r"hindsight steps: expected a whole number from 1 to 1000000, got 1\.5"):
        make_env("Line-v0", **{HINDSIGHT: 1.5})
    with pytest.raises(ValueError, match="goal, share: expected a number between 0 and 1, got 1"):
        HindsightGoal(make_env("Line-v0", render_mode="rgb_array"), 3, share=1.0)
    with pytest.raises(ValueError, match="expected an environment that renders arrays, got render_mode None"):
        HindsightGoal(make_env("Line-v0"), 3)


def test_evaluation_plays_for_these_goals() -> None:
    kwargs = {HINDSIGHT: 4, "ends": 30}
    results = evaluate(["random", "zero"], "Line-v0", range(20), env_kwargs=kwargs, progress=False)
    shares = {entry.entrant: entry.success.value for entry in results.summary()}
    assert shares["zero"] == 0 and shares["random"] > 0.3
