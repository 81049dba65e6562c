"""An environment with goals as planners meet it: seen as the model sees, goals as far away as asked, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dot_world import ENV_ID, SIDE, DotModel, register
from tiny_model import TINY

from grasp_agent.models import LatentWorldModel
from grasp_agent.rollouts.goal_env import GoalEnv

register()


@pytest.mark.parametrize(
    ("pixels", "obs_type", "shape"),
    [(True, "pixels", (SIDE, SIDE, 3)), (True, "plain_pixels", (SIDE, SIDE, 3)), (False, "plain", (2,))],
)
def test_episodes_begin_with_observation_and_goal_wherever_the_goal_is_told(
    pixels: bool, obs_type: str, shape: tuple[int, ...]
) -> None:
    where = GoalEnv(ENV_ID, {"obs_type": obs_type})
    env, kwargs = where.open(DotModel(pixels=pixels))
    seen = where.begin(env, 3)
    assert kwargs["obs_type"] == ("pixels" if pixels else obs_type)
    shown = seen["pixels" if "pixels" in seen else "observation"]
    assert shown.shape == seen["goal"].shape == shape
    assert np.array_equal(where.begin(env, 3)["goal"], seen["goal"]) and not np.array_equal(shown, seen["goal"])


def test_who_sets_the_distance_to_goals() -> None:
    model: Any = LatentWorldModel(TINY)
    pushed, _ = GoalEnv().open(model, 7)
    assert GoalEnv().sets_distance and pushed.unwrapped.goal_horizon == 7  # type: ignore[attr-defined]
    dot = GoalEnv(ENV_ID)
    assert not dot.sets_distance and "goal_horizon" not in dot.open(DotModel(), 7)[1]
    assert dot.look_ahead(DotModel()) == 25, "the task's, where the model names nothing"
    model = DotModel()
    model.look_ahead = 12
    assert dot.look_ahead(model) == 12


def test_an_environment_without_goals_is_refused_in_one_sentence() -> None:
    where = GoalEnv("CartPole-v1")
    env, _ = where.open(DotModel(pixels=False))
    with pytest.raises(ValueError, match=r"'CartPole-v1': expected goals, .* got none; try `grasp-agent evaluate`"):
        where.begin(env, 0)
