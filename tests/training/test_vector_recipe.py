"""The recipe "vector" from an environment to an agent that earns rewards and reaches goals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from grasp_agent import GRASPAgent
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.models import VectorModel, load_world_model
from grasp_agent.objectives import Rewards
from grasp_agent.planning import MultiStart, RandomShooting
from grasp_agent.training import make_recipe, train

STEPS = {"dynamics": 600, "proposal": 10, "outcomes": 500}


@pytest.fixture(scope="module")
def cart(tmp_path_factory: pytest.TempPathFactory) -> tuple[EpisodeDataset, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("cart")
    settings = CollectSettings(("CartPole-v1",), steps=3000, shard_steps=1500, policy="random", episode_length=500)
    data = EpisodeDataset(collect(settings, folder / "data", workers=1))
    recipe = make_recipe("vector", data, STEPS, hidden=48)
    return data, folder / "train", train(data, recipe, folder / "train")


def test_the_dynamics_and_what_steps_earn_are_learned(cart: Any) -> None:
    _, folder, metrics = cart
    model = load_world_model(folder / "model")
    assert isinstance(model, VectorModel)
    assert metrics["relative_latent_error_by_step"]["1"] < 0.03
    assert metrics["outcomes"]["reward"] < 1.0 and metrics["outcomes"]["false_ends"] < 0.1
    assert model.config.action_dim == 2 and model.config.goal_size == 0
    assert (folder / "curves.png").is_file() and not (folder / "rollouts.png").exists()


def test_an_agent_keeps_the_pole_up_longer_than_chance(cart: Any) -> None:
    _, folder, _ = cart
    model = load_world_model(folder / "model")
    env = gym.make("CartPole-v1")
    planner = MultiStart(RandomShooting(), restarts=1, candidates=0, refresh=0)
    agent = GRASPAgent(model, env.action_space, planner, objective=Rewards(model), horizon=12)  # type: ignore[arg-type]
    lengths = []
    for seed in (20_000, 20_001):
        observation, _ = env.reset(seed=seed)
        agent.reset()
        lengths.append(0)
        ended = False
        while not ended and lengths[-1] < 80:
            observation, _, ended, _, _ = env.step(agent.act(observation))
            lengths[-1] += 1
    env.close()
    assert min(lengths) >= 60, "random actions keep it up for about 20 steps"


def test_the_recipe_suits_the_data_it_is_made_for(cart: Any, tmp_path: Path) -> None:
    data, _, _ = cart
    assert make_recipe("vector", data).rewards  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expected pictures, got vectors of 4 numbers"):
        train(data, make_recipe("sprites", data), tmp_path / "sprites")
    assert not (tmp_path / "sprites").exists()


def test_without_rewards_in_the_data_none_are_learned(cart: Any, tmp_path: Path) -> None:
    data, _, _ = cart
    for shard in sorted(data.folder.glob("shard-*")):
        copied = tmp_path / "old" / shard.name
        copied.mkdir(parents=True)
        for name in ("vectors", "actions", "lengths"):
            np.save(copied / f"{name}.npy", np.load(shard / f"{name}.npy"))
    (tmp_path / "old" / "dataset.json").write_text((data.folder / "dataset.json").read_text())
    old = EpisodeDataset(tmp_path / "old")
    recipe = make_recipe("vector", old, {"dynamics": 2, "proposal": 2}, hidden=8)
    train(old, recipe, tmp_path / "train")
    model = load_world_model(tmp_path / "train" / "model")
    assert isinstance(model, VectorModel) and not model.rewards
    with pytest.raises(ValueError, match="expected data with rewards"):
        train(old, make_recipe("vector", old, {"dynamics": 2}, rewards=True), tmp_path / "no")


def test_goals_of_a_goal_environment_are_reached(tmp_path: Path) -> None:
    env_id = "grasp_envs:grasp_envs/Wall-v0"
    settings = CollectSettings((env_id,), steps=3000, shard_steps=3000, env_kwargs=(("obs_type", "state"),))
    data = EpisodeDataset(collect(settings, tmp_path / "data", workers=1))
    recipe = make_recipe("vector", data, {"dynamics": 800, "proposal": 1, "outcomes": 1}, hidden=48)
    train(data, recipe, tmp_path / "train")
    model = load_world_model(tmp_path / "train" / "model")
    model.proposes = False  # type: ignore[attr-defined]
    env = gym.make(env_id, obs_type="state")
    agent = GRASPAgent(model, env.action_space, horizon=10)
    options = {"state": [12.0, 45.0], "goal": [24.0, 50.0]}  # within one room
    observation, _ = env.reset(seed=0, options=options)
    for _ in range(15):
        observation, _, _, _, info = env.step(agent.act(observation))
    assert info["is_success"], info["distance"]
    env.close()
