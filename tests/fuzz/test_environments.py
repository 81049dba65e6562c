"""Every registered environment: arguments, seeds, options and actions either play or are refused in a sentence."""

from __future__ import annotations

import inspect
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_values import ODD, SEEDS, answered, examples

import grasp_envs
from grasp_envs.ball_nav import BallNavEnv
from grasp_envs.point_maze import PointMazeEnv
from grasp_envs.pusht import PushTEnv
from grasp_envs.pusht_reach import PushTReachEnv
from grasp_envs.wall import WallEnv

KINDS: tuple[Any, ...] = (BallNavEnv, PointMazeEnv, PushTEnv, PushTReachEnv, WallEnv)
WORDS = st.sampled_from(
    [
        *("state", "pixels", "environment_state_agent_pos", "pixels_agent_pos", "sparse", "dense", "rgb_array"),
        *("relative", "absolute", "pose", "strict", "far", "any", "umaze", "medium", ["####", "#..#", "####"]),
    ]
)
VALUES = ODD | WORDS | st.integers(5, 70)
STATES = VALUES | st.lists(st.floats(), max_size=7) | st.lists(st.floats(-1, 3), min_size=2, max_size=7)
ACTIONS = ODD | st.lists(st.floats(), min_size=2, max_size=2) | st.lists(st.floats(-1, 1) | ODD, max_size=3)


def arguments(kind: Any) -> list[str]:
    return list(inspect.signature(kind).parameters)


def check_shown(env: gym.Env[Any, Any], observation: Any, reward: float = 0.0) -> None:
    """Inside the declared space, and a finite reward."""
    assert env.observation_space.contains(observation), observation
    assert isinstance(reward, float) and math.isfinite(reward)
    if env.render_mode == "rgb_array":
        size = env.visualization_size  # type: ignore[attr-defined]
        picture = env.render()
        assert isinstance(picture, np.ndarray) and (picture.shape, picture.dtype) == ((size, size, 3), np.uint8)


def test_all_registered_environments_are_here() -> None:
    registered = {spec.entry_point for spec in gym.registry.values() if spec.namespace == grasp_envs.__name__}
    # Other packages' worlds: tests/envs/test_gym_pusht.py and test_mujoco_point_maze.py.
    wrapped = {"grasp_envs.gym_pusht:GymPushTEnv", "grasp_envs.mujoco_point_maze:MujocoPointMazeEnv"}
    assert registered == {f"{kind.__module__}:{kind.__name__}" for kind in KINDS} | wrapped


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument(kind: Any) -> None:
    @examples(100)
    @given(st.dictionaries(st.sampled_from(arguments(kind)), VALUES, min_size=1, max_size=3), SEEDS)
    def check(changed: dict[str, Any], seed: Any) -> None:
        env = answered(lambda: kind(**{"visualization_size": 16, "resolution": 16, **changed}), ValueError)
        if env is None:
            return
        shown = answered(lambda: env.reset(seed=seed), ValueError)
        if shown is not None:
            check_shown(env, shown[0])
            observation, reward, *_ = env.step(env.action_space.sample())
            check_shown(env, observation, reward)

    check()


@pytest.fixture(scope="module", params=KINDS)
def env(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_every_option_of_a_reset(env: Any) -> None:
    options = st.dictionaries(st.sampled_from(["state", "goal"]), STATES, min_size=1)
    odd = ODD | st.dictionaries(st.sampled_from(["state", "goal", "start", 3]), STATES, max_size=2)

    @examples(80)
    @given(SEEDS | st.none(), options | odd, STATES)
    def check(seed: Any, asked: Any, state: Any) -> None:
        shown = answered(lambda: env.reset(seed=seed, options=asked), ValueError)
        if shown is not None:
            check_shown(env, shown[0])
        answered(lambda: env.set_state(state), ValueError)
        assert np.isfinite(env.get_state()).all()
        policy = answered(lambda: env.make_expert(seed), ValueError)
        if policy is not None:
            assert env.action_space.contains(policy.act())

    check()


def test_every_action(env: Any) -> None:
    env.reset(seed=0)

    @examples(100)
    @given(ACTIONS)
    def check(action: Any) -> None:
        before = env.get_state()
        stepped = answered(lambda: env.step(action), ValueError)
        if stepped is None:
            np.testing.assert_array_equal(env.get_state(), before)
        else:
            check_shown(env, stepped[0], stepped[1])

    check()


@examples(60)
@given(ODD | st.lists(st.floats() | ODD, max_size=5))
def test_every_goal_of_the_expert(goal: Any) -> None:
    env = PushTEnv()
    expert = answered(lambda: env.make_expert(0, goal), ValueError)
    if expert is not None:
        assert env.action_space.contains(expert.act())
