"""World models: shapes, symmetry, saving and loading, and what is said when a file is not what it should be."""

from __future__ import annotations

import json

import pytest
import torch

from grasp_agent.core.types import WorldModel
from grasp_agent.models import (
    LatentWorldModel,
    WorldModelConfig,
    from_pretrained,
    load_world_model,
    save_pretrained,
)


def small(layout: str = "planar_push", **changes: object) -> LatentWorldModel:
    settings: dict[str, object] = {
        "image_size": 16,
        "encoder_channels": 4,
        "encoder_keypoints": 4,
        "encoder_hidden": 16,
        "dynamics_hidden": 16,
        "dynamics_depth": 2,
        "decoder_channels": 4,
        "layout": layout,
        "state_size": 6 if layout == "planar_push" else 5,
    }
    torch.manual_seed(0)
    return LatentWorldModel(WorldModelConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("layout", "block"), [("planar_push", 1), ("free", 1), ("free", 5)])
def test_shapes_and_protocol(layout: str, block: int) -> None:
    model = small(layout, action_block=block)
    assert isinstance(model, WorldModel)
    frames = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    latents = model.encode(frames)
    assert latents.shape == (3, *model.state_shape)
    assert torch.equal(latents, model.encode({"pixels": frames}))
    window = latents[:, None].expand(-1, model.history, -1)
    following = model.predict(window, torch.zeros(3, model.history, 2 * block))
    assert following.shape == latents.shape
    images = model.decode(following)
    assert images.shape == (3, 16, 16, 3) and images.min() >= 0 and images.max() <= 1


def test_encoding_of_a_frame_does_not_depend_on_its_neighbours() -> None:
    model = small()
    frames = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    together = model.encode(frames)
    alone = torch.cat([model.encode(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(1, 16, 16, 3),
        torch.zeros(16, 16, 3, dtype=torch.uint8),
    ],
)
def test_other_frames_are_refused_with_advice(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 images of shape \[B, 16, 16, 3\].*resolution=16"):
        small().encode(frames)


def test_save_and_load_round_trip(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = small(distance_weights=(0.5, 0.5, 1.0, 1.0, 1.0, 1.0))
    save_pretrained(model, tmp_path / "m", {"note": "x"})
    loaded = load_world_model(tmp_path / "m")
    assert loaded.config == model.config and loaded.distance_weights == (0.5, 0.5, 1.0, 1.0, 1.0, 1.0)
    frames = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    assert torch.equal(model.encode(frames), loaded.encode(frames))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "m" / "config.json").read_text())["info"] == {"note": "x"}


def test_damaged_and_foreign_checkpoints_are_explained(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = save_pretrained(small(), tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        from_pretrained(folder)
    save_pretrained(small("free"), tmp_path / "other")
    (folder / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="weights do not fit"):
        from_pretrained(folder)
    (folder / "config.json").write_text('{"format": "something else"}')
    with pytest.raises(ValueError, match="expected format 'grasp-agent world model'"):
        from_pretrained(folder)
    (folder / "config.json").write_text("\x00\x01")
    with pytest.raises(ValueError, match="expected JSON"):
        from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json, which is missing"):
        from_pretrained(folder)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"unknown world model 'pusht-v9'.*'pusht', .*hub id"):
        load_world_model("pusht-v9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "round"}, "expected 'free' or 'planar_push'"),
        ({"layout": "planar_push", "state_size": 7}, "expected state_size 6"),
        ({"layout": "planar_push", "state_size": 6, "action_block": 5}, "expected action_block 1"),
        ({"history": 0}, "history: expected a positive number"),
        ({"distance_weights": (1.0,)}, "distance_weights: expected"),
        ({"image_size": 50}, "multiple of 8"),
    ],
)
def test_configurations_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentWorldModel(WorldModelConfig(**changes))  # type: ignore[arg-type]
