"""The shipped large latents of Push-T: they draw what they see, and foresee better than by standing still."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from grasp_agent.models import JointEmbeddingModel, load_world_model
from grasp_agent.planning import GRASP

STEPS = 30


@pytest.fixture(scope="module", params=["pusht-grid", "pusht-vector"])
def model(request: pytest.FixtureRequest) -> JointEmbeddingModel:
    loaded = load_world_model(request.param)
    assert isinstance(loaded, JointEmbeddingModel)
    return loaded


@pytest.fixture(scope="module")
def episode() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [T + 1, 64, 64, 3] and actions [T, 2] of a block that is pushed along."""
    env = gym.make("grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=64)
    observation, _ = env.reset(seed=20_000, options={"state": [100.0, 256.0, 256.0, 256.0, 0.5]})
    frames, action = [observation["pixels"]], np.array([0.6, 0.05], np.float32)
    for _ in range(STEPS):
        observation, *_ = env.step(action)
        frames.append(observation["pixels"])
    env.close()
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(action).expand(STEPS, 2)


def test_it_draws_what_it_sees(model: JointEmbeddingModel, episode: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames = episode[0][::5]
    with torch.no_grad():
        drawn = model.decode(model.encode(frames))
    error = (drawn - frames / 255).square().mean()
    assert float(error) < 0.1 * float((frames / 255).var(0).mean() + (frames / 255).var())
    still = (frames[:1] / 255 - frames / 255).square().mean((1, 2, 3))[-1]
    assert float((drawn[-1] - frames[-1] / 255).square().mean()) < 0.2 * float(still)


def test_it_foresees_better_than_by_standing_still(
    model: JointEmbeddingModel, episode: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """20 steps, behind a history of three of the model's own steps."""
    k, h = model.action_block, model.history
    frames, blocks = episode[0][::k], episode[1].reshape(STEPS // k, -1)
    with torch.no_grad():
        latents = model.encode(frames)
        path = list(latents[:h])
        for t in range(20 // k):
            path.append(model.predict(torch.stack(path[-h:])[None], blocks[None, t : t + h])[0])
    foreseen = (path[-1] - latents[len(path) - 1]).square().mean()
    still = (latents[h - 1] - latents[len(path) - 1]).square().mean()
    assert float(foreseen) < 0.3 * float(still)


def test_its_planner_needs_no_jacobians(model: JointEmbeddingModel) -> None:
    if model.state_shape == (64, 32):
        assert GRASP.for_model(model) == GRASP.large_latent(iterations=42), "a wide latent takes more iterations"
    else:
        assert model.state_shape == (128,)
        assert GRASP.for_model(model) == GRASP.large_latent()
