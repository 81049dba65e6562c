"""Saving and loading a class of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grasp_agent.core.types import WorldModel
from grasp_agent.models import LatentWorldModel, WorldModelConfig, load_world_model, register_model, save_pretrained
from grasp_agent.models.registry import KINDS, Part


@dataclass(frozen=True)
class MeanConfig:
    """Settings of a `MeanModel`."""

    image_size: int = 4
    state_size: int = 2


class MeanModel(nn.Module):
    """A latent is linear in the mean colour; an action adds to it."""

    history, action_dim, action_block = 1, 2, 1

    def __init__(self, config: MeanConfig) -> None:
        super().__init__()
        self.config, self.image_size, self.state_shape = config, config.image_size, (config.state_size,)
        self.read = nn.Linear(3, config.state_size)

    def encode(self, obs: Tensor) -> Tensor:
        latents: Tensor = self.read(obs.float().mean((1, 2)))
        return latents

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return states[:, -1] + actions[:, -1]


class PartModel(MeanModel):
    """With a pretrained part."""

    def __init__(self, config: MeanConfig, eyes: nn.Module) -> None:
        super().__init__(config)
        self.eyes = eyes


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    known = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(known)


def test_a_registered_class_comes_back_as_it_was(tmp_path: Path) -> None:
    register_model("mean", MeanModel, MeanConfig)
    model = MeanModel(MeanConfig(state_size=3))
    folder = save_pretrained(model, tmp_path / "m", {"note": "mine"})
    assert json.loads((folder / "config.json").read_text())["kind"] == "mean"
    loaded = load_world_model(folder)
    assert isinstance(loaded, MeanModel) and isinstance(loaded, WorldModel) and not loaded.training
    assert loaded.config == model.config
    frames = torch.randint(0, 256, (5, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(loaded.encode(frames), model.encode(frames))


def test_a_part_keeps_its_own_files(tmp_path: Path) -> None:
    def save(part: nn.Module, folder: Path) -> None:
        folder.mkdir()
        torch.save(part.state_dict(), folder / "eyes.pt")

    def load(folder: Path, config: MeanConfig) -> nn.Module:
        part = nn.Linear(config.state_size, 1)
        part.load_state_dict(torch.load(folder / "eyes.pt", weights_only=True))
        return part

    register_model("part", PartModel, MeanConfig, Part("eyes", save, load))
    model = PartModel(MeanConfig(), nn.Linear(2, 1))
    folder = save_pretrained(model, tmp_path / "m")
    assert (folder / "eyes" / "eyes.pt").is_file()
    loaded = load_world_model(folder)
    assert isinstance(loaded, PartModel) and torch.equal(loaded.eyes.weight, model.eyes.weight)  # type: ignore[arg-type]
    assert torch.equal(loaded.read.weight, model.read.weight)


def test_a_class_that_is_not_registered_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got MeanModel; try register_model\('my_kind', MeanModel, its config class\)"):
        save_pretrained(MeanModel(MeanConfig()), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_nearest_registered_class_counts(tmp_path: Path) -> None:
    class Child(LatentWorldModel):
        pass

    sizes = {"encoder_channels": 4, "encoder_keypoints": 4, "encoder_hidden": 8, "dynamics_hidden": 8}
    config = WorldModelConfig(image_size=16, decoder_channels=0, **sizes)  # type: ignore[arg-type]
    assert type(load_world_model(save_pretrained(Child(config), tmp_path / "a"))) is LatentWorldModel
    register_model("child", Child, WorldModelConfig)
    assert type(load_world_model(save_pretrained(Child(config), tmp_path / "b"))) is Child


def test_names_belong_to_one_class() -> None:
    register_model("mean", MeanModel, MeanConfig)
    register_model("mean", MeanModel, MeanConfig)  # as when a notebook's cell runs again
    with pytest.raises(ValueError, match="the kind 'latent' is LatentWorldModel's; choose another name"):
        register_model("latent", MeanModel, MeanConfig)
    with pytest.raises(TypeError, match="expected a dataclass as the config of MeanModel"):
        register_model("other", MeanModel, dict)


def test_loading_uses_no_random_numbers_of_the_caller(tmp_path: Path) -> None:
    register_model("mean", MeanModel, MeanConfig)
    folder = save_pretrained(MeanModel(MeanConfig()), tmp_path / "m")
    for name in ("pusht", folder):
        before = torch.get_rng_state()
        load_world_model(name)
        assert torch.equal(before, torch.get_rng_state())
