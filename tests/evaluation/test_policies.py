"""Who can take part, and how policies find the environment they were trained on."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from dot_world import ENV_ID, SIDE, DotEnv, DotModel, register
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.evaluation.policies import (
    AgentEntrant,
    PolicyEntrant,
    RandomEntrant,
    algorithm_of,
    load_policy,
    make_entrants,
)
from grasp_agent.planning import GradientDescent
from grasp_agent.rollouts.environments import make_env, same_space

register()
SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)
OFF_POLICY: dict[str, Any] = {"buffer_size": 50, "learning_starts": 5, "batch_size": 4}


def tiny() -> dict[str, Any]:
    """Arguments for a small network; anew each time, as algorithms write into them."""
    return {"policy_kwargs": {"net_arch": [4]}, "seed": 0}


def trained(name: str) -> Any:
    """A policy after a few steps of training: on the dot, or on cart and pole for DQN."""
    algorithm = getattr(sb3, name)
    if name == "DQN":
        return algorithm("MlpPolicy", "CartPole-v1", **tiny(), **OFF_POLICY).learn(10)
    if name in ("PPO", "A2C"):
        small = {"n_steps": 8, "batch_size": 8} if name == "PPO" else {}
        return algorithm("MultiInputPolicy", DotEnv(), **tiny(), **small).learn(8)
    return algorithm("MultiInputPolicy", DotEnv(), **tiny(), **OFF_POLICY).learn(10)


@pytest.fixture(scope="module", params=["PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    model = trained(request.param)
    path = tmp_path_factory.mktemp("policies") / "policy.zip"
    model.save(path)
    return request.param, model, path


def test_the_algorithm_is_told_by_the_file(saved: tuple[str, Any, Path]) -> None:
    name, _, path = saved
    assert algorithm_of(path) == name


def test_a_loaded_policy_acts_as_the_trained_one(saved: tuple[str, Any, Path]) -> None:
    name, model, path = saved
    loaded = load_policy(path)
    assert type(loaded).__name__ == name
    observation = model.observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


def test_loading_leaves_the_global_random_generators_alone(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), **tiny()).save(tmp_path / "seeded.zip")
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    first = np.random.rand()  # noqa: NPY002
    load_policy(tmp_path / "seeded.zip")
    np.testing.assert_array_equal([first, np.random.rand()], expected)  # noqa: NPY002


def test_a_policy_trained_with_her_loads_without_its_environment(tmp_path: Path) -> None:
    class Goals(DotEnv):
        def __init__(self) -> None:
            super().__init__()
            place = self.observation_space["observation"]
            self.observation_space = spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})

        def _observe(self) -> Any:
            return {**super()._observe(), "achieved_goal": self.point.copy()}

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return -np.linalg.norm(np.asarray(achieved) - desired, axis=-1)

    model = sb3.SAC("MultiInputPolicy", Goals(), replay_buffer_class=sb3.HerReplayBuffer, **tiny(), buffer_size=100)
    model.save(tmp_path / "her.zip")
    observation = model.observation_space.sample()
    loaded = load_policy(tmp_path / "her.zip")
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


def test_a_policy_loads_although_its_learning_rate_function_cannot_be_read(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), learning_rate=lambda left: 1e-3 * left, **tiny()).save(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = json.loads(content)
                assert ":serialized:" in data["learning_rate"]
                data["learning_rate"][":serialized:"] = data["lr_schedule"][":serialized:"] = "gASVAA=="
                content = json.dumps(data).encode()
            new.writestr(name, content)
    load_policy(tmp_path / "b.zip").predict(DotEnv().observation_space.sample())


# ---- environments ------------------------------------------------------------------------------------------


def opened(entrant: Any, **env_kwargs: Any) -> tuple[spaces.Space[Any], dict[str, Any]]:
    env, kwargs = entrant.open(ENV_ID, env_kwargs)
    env.close()
    return env.observation_space, kwargs


def test_an_agent_sees_pixels_of_its_world_models_size() -> None:
    agent = MPCAgent(DotModel(), SQUARE, GradientDescent())
    space, kwargs = opened(AgentEntrant(agent), limit=5)
    assert kwargs == {"obs_type": "pixels", "resolution": SIDE, "limit": 5}
    assert space["pixels"].shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_a_policy_gets_the_observation_it_was_trained_on(obs_type: str) -> None:
    vec_env: Any = DummyVecEnv([lambda: DotEnv(obs_type, resolution=40)])
    if obs_type == "pixels":
        vec_env = VecTransposeImage(vec_env)
    policy = sb3.PPO("MultiInputPolicy", vec_env, n_steps=8, batch_size=8, seed=0)
    entrant = PolicyEntrant(policy, {})
    env, kwargs = entrant.open(ENV_ID, {})
    assert kwargs == ({} if obs_type == "state" else {"obs_type": "pixels", "resolution": 40})
    observation, info = env.reset(seed=0)
    entrant.begin(env, 0, observation, info)
    assert env.action_space.contains(entrant.act(observation))


def test_a_policy_for_another_task_is_refused_naming_both_spaces() -> None:
    policy = sb3.PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match=r"expected the policy's spaces, Box.*got only Dict"):
        PolicyEntrant(policy, {}).open(ENV_ID, {})


def test_an_agent_with_a_wider_action_space_than_the_environment_is_refused() -> None:
    agent = MPCAgent(DotModel(), spaces.Box(-2.0, 2.0, (2,)), GradientDescent())
    with pytest.raises(ValueError, match="actions that hold the agent's Box"):
        AgentEntrant(agent).open(ENV_ID, {})


def test_images_with_channels_first_count_as_the_same_space() -> None:
    last, first = (spaces.Box(0, 255, shape, np.uint8) for shape in ((8, 8, 3), (3, 8, 8)))
    assert same_space(spaces.Dict({"a": first, "b": SQUARE}), spaces.Dict({"a": last, "b": SQUARE}))
    assert not same_space(first, spaces.Box(0, 255, (9, 9, 3), np.uint8))
    assert not same_space(SQUARE, spaces.Box(-2.0, 2.0, (2,), np.float32))


def test_namespaced_environments_are_found_without_importing_their_package() -> None:
    env = make_env("grasp_envs/PushTReach-v0", goal_horizon=5)
    assert env.reset(seed=0)[1]["is_success"] is not None
    env.close()


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("NoSuchThing-v0", {}, "'NoSuchThing-v0' cannot be made"),
        ("no_such_package/Thing-v0", {}, "cannot be made"),
        (ENV_ID, {"colour": "red"}, "refuses .*colour"),
        (ENV_ID, {"obs_type": "smell"}, "obs_type: expected one of"),
    ],
)
def test_environments_that_cannot_be_made_are_named_in_one_sentence(
    env_id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RandomEntrant().open(env_id, kwargs)
    assert "\n" not in str(caught.value)


def broken_zip(path: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def test_files_that_hold_no_policy_are_named_in_one_sentence(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), n_steps=8, batch_size=8).save(tmp_path / "whole.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:3000])
    foreign = {"data": json.dumps({"policy_class": {"__module__": "sb3_contrib.tqc.policies"}, "target_entropy": 1})}
    unknown = {"data": json.dumps({"policy_class": {"__module__": "my.policies"}})}
    cases = [
        (tmp_path / "missing.zip", "no such file"),
        (tmp_path / "cut.zip", "damaged or of another format"),
        (broken_zip(tmp_path / "other.zip", {"letter.txt": "dear all"}), "damaged or of another format"),
        (broken_zip(tmp_path / "list.zip", {"data": "[1, 2]"}), "damaged or of another format"),
        (broken_zip(tmp_path / "foreign.zip", foreign), "one of A2C, DDPG, DQN, PPO, SAC, TD3.*sb3_contrib"),
        (broken_zip(tmp_path / "unknown.zip", unknown), "load it in Python and pass the object"),
        (
            broken_zip(tmp_path / "empty.zip", {"data": json.dumps({"policy_class": {}, "clip_range": 1})}),
            "loadable PPO",
        ),
    ]
    for path, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            load_policy(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entrants", "error", "message"),
    [
        ({}, ValueError, "at least one"),
        (["gras"], ValueError, "expected random, zero, expert, the path of .* got 'gras'"),
        ({"mine": 3}, TypeError, "entrant 'mine': expected an MPCAgent, an object with predict"),
        (["nowhere.zip"], ValueError, "no such file"),
    ],
)
def test_unknown_entrants_are_refused(entrants: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_entrants(entrants)


def test_expert_and_zero_say_which_environments_they_need() -> None:
    entrants = make_entrants(["expert", "zero"])
    env = gym.make("CartPole-v1")
    observation, info = env.reset(seed=0)
    with pytest.raises(ValueError, match="make_expert, which 'CartPole-v1' lacks"):
        entrants["expert"].begin(env, 0, observation, info)
    with pytest.raises(TypeError, match="expected a Box action space, got Discrete"):
        entrants["zero"].begin(env, 0, observation, info)
    env.close()


def test_descriptions_tell_agents_apart_and_are_the_same_for_the_same_agent() -> None:
    def describe(**options: Any) -> str:
        agent = MPCAgent(options.pop("model", DotModel()), SQUARE, options.pop("planner", GradientDescent()), **options)
        return json.dumps(AgentEntrant(agent).describe())

    changed = DotModel()
    changed.speed.data += 1
    variants = [
        describe(),
        describe(model=changed),
        describe(planner=GradientDescent(restarts=2, refresh=1)),
        describe(horizon=3),
        describe(replan_every=2),
        describe(seed=5),
    ]
    assert len(set(variants)) == len(variants)
    assert describe() == describe()
