"""The shipped grid model: it draws what it sees, and foresees better than by standing still."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from grasp_agent.models import JointEmbeddingModel, load_world_model
from grasp_agent.planning import GRASP


@pytest.fixture(scope="module")
def model() -> JointEmbeddingModel:
    loaded = load_world_model("pusht-grid")
    assert isinstance(loaded, JointEmbeddingModel)
    return loaded


@pytest.fixture(scope="module")
def episode() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [T, 64, 64, 3] every five steps and the action blocks [T - 1, 10] of a block that is pushed along."""
    env = gym.make("grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=64)
    observation, _ = env.reset(seed=20_000, options={"state": [100.0, 256.0, 256.0, 256.0, 0.5]})
    frames, actions = [observation["pixels"]], []
    for step in range(30):
        action = np.array([0.6, 0.05], np.float32)
        actions.append(action)
        observation, *_ = env.step(action)
        if step % 5 == 4:
            frames.append(observation["pixels"])
    env.close()
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(actions)).reshape(6, 10)


def test_it_draws_what_it_sees(model: JointEmbeddingModel, episode: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, _ = episode
    with torch.no_grad():
        drawn = model.decode(model.encode(frames))
    error = (drawn - frames / 255).square().mean()
    assert float(error) < 0.1 * float((frames / 255).var(0).mean() + (frames / 255).var())
    still = (frames[:1] / 255 - frames / 255).square().mean((1, 2, 3))[-1]
    assert float((drawn[-1] - frames[-1] / 255).square().mean()) < 0.2 * float(still)


def test_it_foresees_better_than_by_standing_still(
    model: JointEmbeddingModel, episode: tuple[torch.Tensor, torch.Tensor]
) -> None:
    frames, actions = episode
    with torch.no_grad():
        latents = model.encode(frames)
        path = list(latents[:3])
        for t in range(4):  # 20 steps
            path.append(model.predict(torch.stack(path[-3:])[None], actions[None, t : t + 3])[0])
    foreseen = (path[-1] - latents[6]).square().mean()
    still = (latents[2] - latents[6]).square().mean()
    assert float(foreseen) < 0.3 * float(still)


def test_its_planner_needs_no_jacobians(model: JointEmbeddingModel) -> None:
    assert model.state_shape == (64, 32)
    assert GRASP.for_model(model) == GRASP.large_latent()
