"""A world model that reads proprioception beside pictures, in the agent and in evaluation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_dino import tiny_dino

from grasp_agent import Budget
from grasp_agent.agent import MPCAgent
from grasp_agent.evaluation import evaluate
from grasp_agent.objectives import GoalDistance
from grasp_agent.planning import CEM
from grasp_agent.rollouts.environments import open_for_model

REACH = "grasp_envs:grasp_envs/PushTReach-v0"
MODEL = tiny_dino(proprio_dim=2, proprio_mean=(256.0, 256.0), proprio_std=(100.0, 100.0)).requires_grad_(False)


def agent_for(model: Any, space: Any, **options: Any) -> MPCAgent:
    return MPCAgent(model, space, CEM(samples=4, elites=2), horizon=2, budget=Budget(iterations=1), **options)


@pytest.fixture(scope="module")
def env() -> gym.Env[Any, Any]:
    return open_for_model(MODEL, REACH, {"goal_horizon": 5})[0]


def test_the_environment_is_opened_with_both(env: gym.Env[Any, Any]) -> None:
    observation, _ = env.reset(seed=0)
    assert observation["pixels"].shape == (32, 32, 3) and observation["agent_pos"].shape == (2,)
    with pytest.raises(ValueError, match="2 numbers of proprioception under 'proprio' or 'agent_pos'"):
        open_for_model(MODEL, "grasp_envs:grasp_envs/Wall-v0", {})


def test_the_model_is_shown_the_place_and_a_goal_whose_place_does_not_count(env: gym.Env[Any, Any]) -> None:
    agent = agent_for(MODEL, env.action_space)
    observation, _ = env.reset(seed=0)
    problem = agent.problem(observation)
    pixels = torch.from_numpy(observation["pixels"][None])
    place = torch.from_numpy(observation["agent_pos"][None]).float()
    torch.testing.assert_close(problem.states[:, -1], MODEL.encode({"pixels": pixels, "proprio": place}))
    nowhere = {"pixels": torch.from_numpy(observation["goal"][None]), "proprio": torch.zeros(1, 2)}
    torch.testing.assert_close(problem.goal, MODEL.encode(nowhere))
    elsewhere = MODEL.encode({**nowhere, "proprio": torch.full((1, 2), 400.0)})
    assert not torch.allclose(elsewhere, problem.goal)
    assert float(agent.objective.state_cost(elsewhere, problem.goal)) == 0, "of the goal only the picture is known"
    features = problem.goal[..., : MODEL.visual_size]
    gap = (problem.states[:, -1, :, : MODEL.visual_size] - features).square().sum()
    assert float(agent.objective.state_cost(problem.states[:, -1], problem.goal)) == pytest.approx(float(gap), rel=1e-4)


def test_a_goal_may_bring_its_place(env: gym.Env[Any, Any]) -> None:
    objective = GoalDistance(weights=MODEL.goal_weights())
    agent = agent_for(MODEL, env.action_space, objective=objective)
    observation, _ = env.reset(seed=0)
    agent.reset(goal={"pixels": observation["goal"], "proprio": [300.0, 100.0]})  # type: ignore[arg-type]
    wanted = {"pixels": torch.from_numpy(observation["goal"][None]), "proprio": torch.tensor([[300.0, 100.0]])}
    torch.testing.assert_close(agent.problem(observation).goal, MODEL.encode(wanted))
    assert agent.act(observation).shape == (2,)


def test_batches_and_changed_goals(env: gym.Env[Any, Any]) -> None:
    agent = agent_for(MODEL, env.action_space)
    seen = [env.reset(seed=seed)[0] for seed in (1, 2)]
    batch = {key: np.stack([one[key] for one in seen]) for key in ("pixels", "agent_pos", "goal")}
    actions, state = agent.predict(batch)
    assert actions.shape == (2, 2)
    moved = {**batch, "agent_pos": batch["agent_pos"] + 50.0}
    _, later = agent.predict(moved, state)
    assert torch.equal(later.goal, state.goal), "moving changes no goal"
    _, other = agent.predict({**batch, "goal": batch["goal"][::-1].copy()}, state)
    torch.testing.assert_close(other.goal, state.goal.flip(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent_pos": None}, "observation: expected 2 numbers of proprioception under 'proprio' or 'agent_pos'"),
        ({"agent_pos": np.zeros(3)}, r"observation\['agent_pos'\]: expected 2 numbers for each of 1 pictures"),
        ({"agent_pos": np.array([0.0, np.nan])}, r"observation\['agent_pos'\]: expected finite numbers"),
        ({"agent_pos": np.array(["a", "b"])}, r"observation\['agent_pos'\]: expected"),
    ],
)
def test_odd_proprioception_is_one_sentence(change: dict[str, Any], message: str, env: gym.Env[Any, Any]) -> None:
    observation = {**env.reset(seed=0)[0], **change}
    observation = {key: value for key, value in observation.items() if value is not None}
    with pytest.raises((TypeError, ValueError), match=message):
        agent_for(MODEL, env.action_space).act(observation)


def test_evaluation_plays_with_it(env: gym.Env[Any, Any]) -> None:
    entrants = {"dino": agent_for(MODEL, env.action_space)}
    results = evaluate(entrants, REACH, [3, 4], env_kwargs={"goal_horizon": 5}, batch=2, progress=False)
    assert [row.steps for row in results.rows] == [10, 10]
