"""gym-pusht's Push-T behind this package's actions, pictures and goal picture.

The tests run twice: over a stand-in with gym-pusht's interface and this package's physics, and over gym-pusht itself,
where it is installed.
"""

import importlib.util
import math
import sys
import types

import gymnasium as gym
import numpy as np
import pymunk
import pytest
from env_checks import check_that_the_seed_decides_everything
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import grasp_envs  # noqa: F401
from grasp_agent.models import load_world_model
from grasp_agent.rollouts.environments import make_env, open_for_model
from grasp_agent.tasks import task_for
from grasp_agent.tasks.registry import goal_weights_for
from grasp_envs.gym_pusht import GymPushTEnv
from grasp_envs.pusht import PushTEnv, beside_bar

ENV = "grasp_envs:grasp_envs/GymPushT-v0"
TARGET = (256.0, 256.0, math.pi / 4)
CENTRE_OF_MASS = 45.0  # px below the block's origin


class StandIn(gym.Env):
    """What of gym-pusht is relied on: absolute actions, pictures with the agent's place, no goal picture, and a block
    that is turned about its centre of mass after it was placed."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    shown_off_by = 0.0

    def __init__(
        self,
        *,
        obs_type,
        render_mode,
        observation_width,
        observation_height,
        visualization_width,
        visualization_height,
    ):
        assert (obs_type, render_mode) == ("pixels_agent_pos", "rgb_array")
        assert observation_width == observation_height and visualization_width == visualization_height
        self.render_mode = render_mode
        self.inner = PushTEnv(obs_type, observation_width, "absolute", render_mode, visualization_width)
        self.action_space, self.observation_space = self.inner.action_space, self.inner.observation_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        given = (options or {}).get("reset_to_state")
        if given is not None:
            x, y, angle = given[2:]
            x, y = x + CENTRE_OF_MASS * math.sin(angle), y + CENTRE_OF_MASS * (1 - math.cos(angle))
            given = {"state": [*given[:2], x, y, angle]}
        observation, info = self.inner.reset(seed=seed, options=given)
        return self._shown(observation), {**self._info(info), "is_success": np.bool_(False)}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, np.float32))
        self.target = np.asarray(action)
        observation, reward, terminated, truncated, info = self.inner.step(action)
        told = {"is_success": np.bool_(info["is_success"]), "coverage": info["coverage"]}
        return self._shown(observation), reward, np.bool_(terminated), truncated, {**self._info(info), **told}

    def render(self):
        return self.inner.render()

    def _shown(self, observation):
        return {**observation, "agent_pos": observation["agent_pos"] + self.shown_off_by}

    def _info(self, info):
        return {"block_pose": info["state"][2:5], "goal_pose": np.array(TARGET), "pos_agent": info["state"][:2]}


@pytest.fixture
def stand_in(monkeypatch):
    """As if gym-pusht were installed, beside an old pymunk."""
    module = types.ModuleType("gym_pusht.envs")
    module.PushTEnv = StandIn
    monkeypatch.setitem(sys.modules, "gym_pusht", types.ModuleType("gym_pusht"))
    monkeypatch.setitem(sys.modules, "gym_pusht.envs", module)
    monkeypatch.setattr(pymunk.Space, "add_collision_handler", None, raising=False)


@pytest.fixture(params=["stand-in", "gym-pusht"])
def world(request):
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
    elif importlib.util.find_spec("gym_pusht") is None or not hasattr(pymunk.Space, "add_collision_handler"):
        pytest.skip("gym-pusht and a pymunk below 7 are not installed")


def make(**arguments):
    return gym.make(ENV, disable_env_checker=True, **arguments)


def beside_it(info, **arguments):
    """This package's Push-T in the state that gym-pusht's is in."""
    env = PushTEnv(**arguments)
    x, y, angle = info["block_pose"]
    return env, env.reset(options={"state": [*info["pos_agent"], x, y, angle]})


@pytest.mark.usefixtures("world")
def test_an_episode_is_that_of_this_packages_push_t():
    with make(resolution=64, obs_type="pixels_agent_pos") as env:
        observation, info = env.reset(seed=3)
        assert info["is_success"] is False
        own, (_, told) = beside_it(info, obs_type="pixels_agent_pos", resolution=64)
        rng, moved = np.random.default_rng(0), info["block_pose"]
        for _ in range(40):
            action = (info["block_pose"][:2] - info["pos_agent"]) / 100 + rng.uniform(-1, 1, 2)
            observation, reward, terminated, truncated, info = env.step(np.clip(action, -1, 1).astype(np.float32))
            shown, paid, ended, _, told = own.step(np.clip(action, -1, 1).astype(np.float32))
            np.testing.assert_allclose(observation["agent_pos"], shown["agent_pos"], atol=1e-6)
            np.testing.assert_allclose(info["block_pose"][:2], told["state"][2:4], atol=1e-6)
            assert info["coverage"] == pytest.approx(told["coverage"], abs=1e-6)
            assert reward == pytest.approx(paid, abs=1e-6) and (terminated, truncated) == (ended, False)
            assert alike(observation["pixels"], shown["pixels"])
        assert np.abs(info["block_pose"] - moved).max() > 20, "the block was pushed"


def alike(picture, other):
    """gym-pusht draws blocks lighter and with outlines."""
    assert picture.shape == other.shape and picture.dtype == other.dtype == np.uint8
    return np.abs(picture.astype(float) - other).mean() < 2


@pytest.mark.usefixtures("world")
def test_the_goal_picture_shows_the_block_on_its_target():
    with make(resolution=64) as env:
        _, info = env.reset(seed=0)
        own = PushTEnv("pixels", 64)
        _, told = own.reset(options={"state": [*beside_bar(TARGET), *TARGET]})
        assert alike(info["goal"], told["goal"])
        green = (info["goal"][..., 1].astype(int) - info["goal"][..., 2]).max()
        assert green < 60, "nothing of the target is left uncovered"
        again = env.step(np.zeros(2, np.float32))[4]["goal"]
        np.testing.assert_array_equal(again, info["goal"])


@pytest.mark.usefixtures("stand_in")
def test_actions_count_from_where_the_observation_shows_the_agent(monkeypatch):
    monkeypatch.setattr(StandIn, "shown_off_by", 30.0)
    with make(obs_type="pixels_agent_pos") as env:
        observation, info = env.reset(seed=1)
        np.testing.assert_allclose(observation["agent_pos"], info["pos_agent"] + 30)
        env.step(np.array([0.5, -0.25], np.float32))
        np.testing.assert_allclose(env.unwrapped.target, observation["agent_pos"] + [50, -25], atol=1e-4)


@pytest.mark.usefixtures("stand_in")
def test_targets_stay_in_the_arena_and_actions_within_their_bounds():
    with make() as env:
        env.reset(options={"reset_to_state": [500.0, 20.0, 200.0, 300.0, 0.0]})
        env.step(np.array([1.0, -1.0], np.float32))
        np.testing.assert_array_equal(env.unwrapped.target, [512.0, 0.0])
        env.reset(options={"reset_to_state": [250.0, 100.0, 200.0, 300.0, 0.0]})
        env.step(np.array([3.0, 0.0], np.float32))
        np.testing.assert_allclose(env.unwrapped.target, [350.0, 100.0])
        with pytest.raises(ValueError, match="expected a finite action"):
            env.step(np.array([np.nan, 0.0]))


@pytest.mark.usefixtures("world")
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")  # on purpose
@pytest.mark.parametrize("obs_type", ["pixels", "pixels_agent_pos"])
def test_gymnasium_check_passes_without_a_warning(obs_type):
    arguments = {"obs_type": obs_type, "visualization_size": 64, "resolution": 32}
    check_env(GymPushTEnv(**arguments), skip_render_check=True)
    with make(**arguments) as env:
        env.reset()
        assert env.render().shape == (64, 64, 3) and env.spec.max_episode_steps == 300


@pytest.mark.usefixtures("world")
def test_the_seed_decides_everything():
    check_that_the_seed_decides_everything(make)


@pytest.mark.usefixtures("stand_in")
def test_the_agent_can_play_it_as_the_classic_task():
    model = load_world_model("pusht")
    env, kwargs = open_for_model(model, ENV, {})
    with env:
        assert kwargs == {"obs_type": "pixels", "resolution": 64}
        assert env.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
        observation, info = env.reset(seed=0)
        task = task_for(ENV)
        assert task.goal(observation, info).shape == (64, 64, 3)
        assert task.progress(env.step(np.zeros(2, np.float32))[4]) is not None
        classic = "grasp_envs:grasp_envs/PushT-v0"
        assert goal_weights_for(ENV, model) == goal_weights_for(classic, model) is not None


# ---------------------------------------------------------------------- what is lacking is said in one sentence


@pytest.mark.usefixtures("stand_in")
def test_a_pymunk_that_gym_pusht_does_not_know_is_named(monkeypatch):
    monkeypatch.delattr(pymunk.Space, "add_collision_handler")
    with pytest.raises(ValueError, match=r"be made: expected pymunk below 7.*got pymunk .*try `pip"):
        make_env(ENV)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    monkeypatch.setitem(sys.modules, "gym_pusht.envs", None)
    with pytest.raises(ValueError, match=r"be made: expected the package gym-pusht, got none .*try `pip"):
        make_env(ENV)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"obs_type": "state"}, "expected obs_type to be one of 'pixels', 'pixels_agent_pos', got 'state'"),
        ({"resolution": 2}, "expected resolution to be an integer of at least 8, got 2"),
        ({"visualization_size": 0}, "expected visualization_size to be an integer of at least 8, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make(**arguments)
