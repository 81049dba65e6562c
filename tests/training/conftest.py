"""Small data and small recipes for the tests of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.models import JointEmbeddingConfig, WorldModelConfig
from grasp_agent.models.planar_push import RADIUS
from grasp_agent.training import JointRecipe, LatentRecipe
from grasp_agent.training.joint import JointWeights
from grasp_agent.training.loop import Stage


@pytest.fixture(scope="session")
def pusht_data(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Eight expert episodes of 31 frames, 16 px."""
    settings = CollectSettings(
        env_ids=("grasp_envs:grasp_envs/PushTReach-v0",), steps=240, shard_steps=120, episode_length=30, resolution=16
    )
    return EpisodeDataset(collect(settings, tmp_path_factory.mktemp("pusht") / "data", workers=1))


@pytest.fixture(scope="session")
def placed_data(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """The same, with the pusher's place beside the pictures."""
    shown = (("obs_type", "pixels_agent_pos"),)
    ids = ("grasp_envs:grasp_envs/PushTReach-v0",)
    settings = CollectSettings(ids, 240, shown, shard_steps=120, episode_length=30, resolution=16)
    return EpisodeDataset(collect(settings, tmp_path_factory.mktemp("placed") / "data", workers=1))


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., LatentRecipe]:
    """Recipes that train in a second, by layout."""

    def make(layout: str, steps: int = 6) -> LatentRecipe:
        sizes = {"encoder_channels": 4, "encoder_keypoints": 8, "encoder_hidden": 16, "decoder_channels": 4}
        config = WorldModelConfig(image_size=16, dynamics_hidden=16, dynamics_depth=1, **sizes)  # type: ignore[arg-type]
        if layout == "planar_push":
            config = replace(config, layout="planar_push", state_size=6, radius=RADIUS, action_scale=0.3)
        else:
            config = replace(config, state_size=8, action_block=5)
        stage = Stage("encoder", steps, batch=16, learning_rate=3e-3, checkpoint_seconds=1e-9, log_every=2)
        return LatentRecipe(
            config,
            "supervised" if layout == "planar_push" else "reconstruction",
            stage,
            replace(stage, name="dynamics"),
            unroll=2,
            held_out=0.3,
        )

    return make


@pytest.fixture(scope="session")
def tiny_joint() -> Callable[..., JointRecipe]:
    """Recipes of predictive latents that train in a second: a vector of 8 numbers, or a grid of 4 x 4 cells of 3."""

    def make(grid: bool = False, encoder: str = "conv", steps: int = 6, **weights: float) -> JointRecipe:
        config = JointEmbeddingConfig(
            image_size=16,
            grid=4 if grid else 0,
            state_size=3 if grid else 8,
            encoder=encoder,
            encoder_width=6,
            encoder_depth=1,
            patch=4,
            dynamics_hidden=16,
            dynamics_depth=1,
            decoder_channels=4,
        )
        stage = Stage("joint", steps, batch=16, learning_rate=3e-3, checkpoint_seconds=1e-9, log_every=2)
        return JointRecipe(
            config,
            JointWeights(**weights),
            stage,
            replace(stage, name="dynamics"),
            unroll=2,
            held_out=0.3,
        )

    return make


@pytest.fixture
def write_episodes(tmp_path: Path) -> Callable[..., EpisodeDataset]:
    """Write given numbers as a data folder: one row of `actions` (and `states`) per frame, black frames of 16 px."""

    def write(
        lengths: list[int], actions: np.ndarray | None = None, states: np.ndarray | None = None
    ) -> EpisodeDataset:
        shard = tmp_path / "episodes" / "shard-00000"
        shard.mkdir(parents=True)
        frames = sum(lengths)
        np.save(shard / "frames.npy", np.zeros((frames, 16, 16, 3), np.uint8))
        np.save(shard / "actions.npy", np.zeros((frames, 2), np.float32) if actions is None else actions)
        np.save(shard / "lengths.npy", np.array(lengths))
        if states is not None:
            np.save(shard / "states.npy", states)
        (shard.parent / "dataset.json").write_text(json.dumps({"format": "grasp-agent episodes", "settings": {}}))
        return EpisodeDataset(shard.parent)

    return write
