"""Who can take part, and how policies find the environment they were trained on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from dot_world import ENV_ID, SIDE, DotEnv, DotModel, register
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.evaluation.policies import AgentEntrant, PolicyEntrant, ReferenceEntrant, make_entrants
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import GradientDescent, MultiStart
from grasp_agent.rollouts.environments import make_env, same_space
from grasp_agent.rollouts.vector import Episode, play

register()
SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)


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


def test_an_agent_sees_what_is_rendered_where_observations_hold_no_picture() -> None:
    agent = MPCAgent(DotModel(), SQUARE, GradientDescent())
    env, kwargs = AgentEntrant(agent).open("blind_world:Shown-v0", {})
    assert kwargs == {"rendered": SIDE} and env.observation_space.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_a_policy_gets_the_observation_it_was_trained_on(obs_type: str) -> None:
    vec_env: Any = DummyVecEnv([lambda: DotEnv(obs_type, resolution=40)])
    if obs_type == "pixels":
        vec_env = VecTransposeImage(vec_env)
    policy = sb3.PPO("MultiInputPolicy", vec_env, n_steps=8, batch_size=8, seed=0)
    entrant = PolicyEntrant(policy, {})
    env, kwargs = entrant.open(ENV_ID, {})
    assert kwargs == ({} if obs_type == "state" else {"obs_type": "pixels", "resolution": 40})
    first, second = list(play(entrant.policy(ENV_ID), [env], [Episode(0, 0, 0)], step_limit=1))
    assert first.action is None and env.action_space.contains(second.action)


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
        ReferenceEntrant("random").open(env_id, kwargs)
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


def test_expert_and_zero_say_which_environments_they_need_before_anybody_plays() -> None:
    with pytest.raises(ValueError, match="CartPole-v1: has no scripted expert"):
        ReferenceEntrant("expert").open("CartPole-v1", {})
    with pytest.raises(
        ValueError, match="Wall-v0: expected a scripted expert that takes goal, got one whose make_expert takes seed;"
    ):
        ReferenceEntrant("expert").open("grasp_envs:grasp_envs/Wall-v0", {})
    ReferenceEntrant("expert").open("grasp_envs:grasp_envs/PushTReach-v0", {})[0].close()
    with pytest.raises(TypeError, match="entrant 'zero': expected a Box action space, got Discrete"):
        ReferenceEntrant("zero").open("CartPole-v1", {})


def test_descriptions_tell_agents_apart_and_are_the_same_for_the_same_agent() -> None:
    def describe(**options: Any) -> str:
        agent = MPCAgent(options.pop("model", DotModel()), SQUARE, options.pop("planner", GradientDescent()), **options)
        return json.dumps(AgentEntrant(agent).describe())

    changed = DotModel()
    changed.speed.data += 1
    variants = [
        describe(),
        describe(model=changed),
        describe(planner=MultiStart(GradientDescent(), restarts=2, refresh=1)),
        describe(objective=GoalDistance(weights=torch.tensor([1.0, 2.0]))),
        describe(budget=Budget(iterations=19)),
        describe(first_budget=Budget(iterations=19)),
        describe(horizon=3),
        describe(replan_every=2),
        describe(seed=5),
    ]
    assert len(set(variants)) == len(variants)
    assert describe() == describe()
