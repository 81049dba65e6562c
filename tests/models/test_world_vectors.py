"""The shipped large latents of Wall and the U-maze: what they foresee, and where the walls are in it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from grasp_agent import GRASPAgent
from grasp_agent.core.capabilities import proposes
from grasp_agent.models import JointEmbeddingModel, load_world_model
from grasp_agent.planning import GRASP

WORLDS = {
    "wall-vector": "grasp_envs/Wall-v0",
    "wall-grid": "grasp_envs/Wall-v0",
    "umaze-vector": "grasp_envs/PointMaze-v0",
    "umaze-grid": "grasp_envs/PointMaze-v0",
}


def loaded(name: str) -> JointEmbeddingModel:
    model = load_world_model(name)
    assert isinstance(model, JointEmbeddingModel)
    return model


def played(model: JointEmbeddingModel, env_id: str, start: list[float], push: list[float], blocks: int) -> Tensor:
    """Latents of the frames after every block of equal pushes, [blocks + 1, *S]; the first is where it begins."""
    env = gym.make(f"grasp_envs:{env_id}", obs_type="pixels", resolution=64)
    observation, _ = env.reset(seed=20_000, options={"state": start})
    frames = [observation["pixels"]]
    for step in range(blocks * model.action_block):
        observation, *_ = env.step(np.array(push, np.float32))
        if (step + 1) % model.action_block == 0:
            frames.append(observation["pixels"])
    env.close()
    with torch.no_grad():
        return model.encode(torch.from_numpy(np.stack(frames)))


@pytest.mark.parametrize(
    ("name", "start", "push"),
    [
        ("wall-vector", [10.0, 30.0], [0.8, 0.5]),
        ("wall-vector", [24.0, 45.0], [1.0, 0.0]),  # into the wall, where it stays
        ("wall-grid", [10.0, 30.0], [0.8, 0.5]),
        ("wall-grid", [24.0, 45.0], [1.0, 0.0]),
        ("umaze-vector", [1.4, 3.5], [0.1, 0.0]),
        ("umaze-grid", [1.4, 3.5], [0.1, 0.0]),
    ],
)
def test_it_foresees_where_pushes_lead(name: str, start: list[float], push: list[float]) -> None:
    model, blocks = loaded(name), 8
    seen = played(model, WORLDS[name], start, push, blocks)
    action = torch.tensor(push).repeat(model.action_block)
    path = list(seen[: model.history])
    with torch.no_grad():
        while len(path) <= blocks:
            path.append(
                model.predict(torch.stack(path[-model.history :])[None], action.expand(1, model.history, -1))[0]
            )
    foreseen, moved = (path[-1] - seen[-1]).norm(), (seen[0] - seen[-1]).norm()
    assert float(foreseen) < 0.3 * float(moved)


@pytest.mark.parametrize(("name", "env_id"), WORLDS.items())
def test_it_plans_without_jacobians_and_says_what_it_is_of(name: str, env_id: str) -> None:
    model = loaded(name)
    grid = name.endswith("-grid")
    assert model.state_shape == ((16, 32) if grid else (128,)) and proposes(model) != grid
    assert GRASP.for_model(model) == GRASP.large_latent()
    assert model.trained_on[0]["env_ids"] == [f"grasp_envs:{env_id}"]


@pytest.mark.parametrize("name", ["wall-grid", "umaze-grid"])
def test_grids_tell_the_way_round_by_steps(name: str) -> None:
    """Two places on both sides of a wall are close in a picture and far apart in steps; two in one room are not."""
    model = loaded(name)
    wall = WORLDS[name].endswith("Wall-v0")
    # Wall: left room, behind the wall, and as far away in the same room. U-maze: the same with the corridors.
    places = [[24.0, 50.0], [42.0, 50.0], [24.0, 32.0]] if wall else [[1.5, 1.5], [1.5, 3.5], [3.5, 1.5]]
    env = gym.make(f"grasp_envs:{WORLDS[name]}", obs_type="pixels", resolution=64)
    frames = [env.reset(seed=20_000, options={"state": place})[0]["pixels"] for place in places]
    env.close()
    with torch.no_grad():
        one, behind, same = model.in_steps(model.encode(torch.from_numpy(np.stack(frames))))
    assert float((one - behind).norm()) > 1.5 * float((one - same).norm())


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("wall-vector", 25),
        ("wall-grid", 45),
        ("umaze-vector", 50),
        ("umaze-grid", 50),
        ("pusht-grid", 20),
        ("pusht-vector", 20),
    ],
)
def test_plans_look_as_far_as_it_says(name: str, steps: int) -> None:
    model = loaded(name)
    agent = GRASPAgent(model, spaces.Box(-1.0, 1.0, (2,), np.float32))
    assert agent.horizon == round(steps / model.action_block)
