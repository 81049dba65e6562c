"""The shipped model of sprites: poses from pixels to a fraction of a pixel, and rollouts that come true."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from grasp_agent.core.capabilities import proposes
from grasp_agent.models import SpritesModel, load_world_model
from grasp_agent.models.io import PRETRAINED
from grasp_agent.models.sprites.config import UNITS

PX = 256 / UNITS
"""Pixels of the arena in a latent unit."""


@pytest.fixture(scope="module")
def model() -> SpritesModel:
    loaded = load_world_model("pusht")
    assert isinstance(loaded, SpritesModel)
    return loaded


def played(env_id: str, seed: int, steps: int = 24) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.float64]]:
    """Frames [T, 64, 64, 3], actions [T - 1, 2] and states [T, 7] of the scripted expert."""
    with gym.make(f"grasp_envs:{env_id}", obs_type="pixels", resolution=64) as env:
        observation, _ = env.reset(seed=seed)
        inner = env.unwrapped
        expert = inner.make_expert(seed)  # type: ignore[attr-defined]
        frames, actions, states = [], [], []
        for _ in range(steps):
            frames.append(observation["pixels"] if isinstance(observation, dict) else observation)
            states.append(inner.get_state())  # type: ignore[attr-defined]
            action = expert.act()
            actions.append(action)
            observation, *_ = env.step(action)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(actions[:-1])).float(), np.stack(states)


def errors(latents: torch.Tensor, states: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Of pusher [px], block [px] and angle [degrees], each [T]; a sprite's own centre and axis may lie anywhere."""
    z = latents.numpy().astype(np.float64)
    beside = z[:, 0:2] * PX + 256 - states[:, 0:2]
    pusher = np.linalg.norm(beside - beside.mean(0), axis=1)
    turns = np.angle(np.exp(1j * (np.arctan2(z[:, 5], z[:, 4]) - states[:, 4])))
    axis = np.angle(np.exp(1j * turns).mean())
    degrees = np.degrees(np.abs(np.angle(np.exp(1j * (turns - axis)))))
    cos, sin = np.cos(states[:, 4]), np.sin(states[:, 4])
    gap = z[:, 2:4] * PX + 256 - states[:, 2:4]
    aside = np.stack([cos * gap[:, 0] + sin * gap[:, 1], cos * gap[:, 1] - sin * gap[:, 0]], 1)
    return pusher, np.linalg.norm(aside - aside.mean(0), axis=1), degrees


@pytest.mark.parametrize("env_id", ["grasp_envs/PushTReach-v0", "grasp_envs/PushT-v0"])
def test_it_reads_poses_to_a_fraction_of_a_pixel(model: SpritesModel, env_id: str) -> None:
    """A pixel of a frame is 8 px of the arena."""
    frames, states = [], []
    for seed in range(20_000, 20_004):
        shown, _, true = played(env_id, seed)
        frames.append(shown)
        states.append(true)
    pusher, block, degrees = errors(model.encode(torch.cat(frames)), np.concatenate(states))
    assert np.median(pusher) < 0.6 and np.median(block) < 0.5 and np.median(degrees) < 0.4
    assert np.quantile(pusher, 0.95) < 2 and np.quantile(block, 0.95) < 2 and np.quantile(degrees, 0.95) < 2


def test_its_rollouts_come_true(model: SpritesModel) -> None:
    """Twenty steps from three frames: poses against the encoding of what the expert really met."""
    gaps, moved = [], []
    for seed in range(20_000, 20_006):
        frames, actions, _ = played("grasp_envs/PushTReach-v0", seed)
        latents = model.encode(frames)
        path = list(latents[:3])
        with torch.no_grad():
            for t in range(20):
                path.append(model.predict(torch.stack(path[-3:])[None], actions[None, t : t + 3])[0])
        gaps.append((path[-1] - latents[22]).abs())
        moved.append((latents[2] - latents[22]).norm())
    assert PX * torch.stack(gaps)[:, :4].median() < 3
    assert torch.stack(moved).max() * PX > 50


def test_it_draws_what_it_sees(model: SpritesModel) -> None:
    frames, _, _ = played("grasp_envs/PushTReach-v0", 20_008)
    with torch.no_grad():
        drawn = model.decode(model.encode(frames))
    shown = frames / 255
    empty = (shown - model.difference.backgrounds[0] / 255).square().mean()
    assert float((drawn - shown).square().mean()) < 0.05 * float(empty)


def test_it_knows_what_the_actions_move_and_ships_small(model: SpritesModel) -> None:
    assert model.driven == (True, True, False, False, False, False)
    assert proposes(model) and model.action_limit is not None and 0.4 < model.action_limit < 1
    folder = PRETRAINED / "pusht"
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 3e6
    assert "no simulator state" in (folder / "README.md").read_text().lower()


def test_turning_the_picture_turns_what_it_reads(model: SpritesModel) -> None:
    frames, _, _ = played("grasp_envs/PushTReach-v0", 20_007, steps=4)
    here, there = model.encode(frames), model.encode(frames.transpose(1, 2).flip(1))  # a quarter turn, x to y
    places, turned = here[:, :4].reshape(-1, 2), there[:, :4].reshape(-1, 2)
    torch.testing.assert_close(turned, torch.stack([places[:, 1], -places[:, 0]], 1), atol=4 / PX, rtol=0)
    angles = [torch.atan2(z[:, 5], z[:, 4]) for z in (here, there)]
    gap = torch.remainder(angles[1] - angles[0] + math.pi / 2 + math.pi, 2 * math.pi) - math.pi
    assert gap.abs().max() < math.radians(1)
