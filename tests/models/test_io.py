"""Model folders: what was changed since they were saved is noticed, and what they say is checked."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_dino import tiny_dino
from tiny_model import TINY

from grasp_agent.models import LatentWorldModel, from_pretrained, save_pretrained
from grasp_agent.models.io import PRETRAINED, pretrained_names, stamp
from grasp_agent.models.registry import KINDS, ModelKind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_pretrained(LatentWorldModel(TINY), tmp_path / "m", {"note": "x"})


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = config_of(folder)
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def unstamp(folder: Path) -> None:
    """Make the folder one of an older version."""
    edit(folder, lambda config: config.pop("sha256"))


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


# ---- digests -------------------------------------------------------------------------------------------------


def test_a_changed_weight_is_noticed(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-6] ^= 1  # in the last number's fraction: another number, but still one
    file.write_bytes(content)
    assert "model.safetensors: expected the file that was saved with config.json, got another" in refused(folder)
    unstamp(folder)
    from_pretrained(folder)  # nothing else would notice


def test_weights_of_another_model_of_the_same_sizes_are_noticed(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = save_pretrained(LatentWorldModel(TINY), tmp_path / "other")
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert "got another (its SHA-256 differs)" in refused(folder)


@pytest.mark.parametrize("change", [{"action_scale": 0.5}, {"distance_weights": [1.0] * 6}, {"length": 5}])
def test_changed_settings_are_noticed_until_the_folder_is_stamped(folder: Path, change: dict[str, Any]) -> None:
    edit(folder, lambda config: config["model"].update(change))
    assert "config.json: expected the settings that the model was saved with, got others" in refused(folder)
    stamp(folder)
    (name, value), *_ = change.items()
    assert getattr(from_pretrained(folder).config, name) == (tuple(value) if isinstance(value, list) else value)
    assert config_of(folder)["info"] == {"note": "x"}


def test_order_and_spaces_are_no_change(folder: Path) -> None:
    config = config_of(folder)
    config["model"] = dict(reversed(config["model"].items()))
    (folder / "config.json").write_text(json.dumps(config, indent=7))
    assert from_pretrained(folder).config == TINY


@pytest.mark.parametrize("digests", [[], "abc", {}, {"settings": "0"}, {"model.safetensors": "0"}])
def test_digests_must_be_whole(folder: Path, digests: Any) -> None:
    edit(folder, lambda config: config.update(sha256=digests))
    assert "expected digests of settings and model.safetensors under 'sha256', got" in refused(folder)


def test_digests_are_of_files_in_the_folder(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    edit(folder, lambda config: config["sha256"].update({"../secret": "0"}))
    with pytest.raises(FileNotFoundError, match=r"expected a world model folder with \.\./secret"):
        from_pretrained(folder)


def test_a_pretrained_part_has_digests_of_its_own(tmp_path: Path) -> None:
    folder = save_pretrained(tiny_dino(), tmp_path / "m")
    assert list(config_of(folder)["sha256"]) == [
        "settings",
        "model.safetensors",
        "backbone/config.json",
        "backbone/model.safetensors",
    ]
    from_pretrained(folder)
    file = folder / "backbone" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    assert "backbone/model.safetensors: expected the file that was saved with" in refused(folder)


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_models_are_stamped_and_load(name: str) -> None:
    before = (PRETRAINED / name / "config.json").read_bytes()
    assert set(json.loads(before)["sha256"]) == {"settings", "model.safetensors"}, "call stamp on the folder"
    from_pretrained(PRETRAINED / name)


# ---- settings ------------------------------------------------------------------------------------------------


def test_all_settings_must_be_there_where_nothing_tells_that_they_never_were(folder: Path) -> None:
    unstamp(folder)
    from_pretrained(folder)
    edit(folder, lambda config: (config["model"].pop("action_scale"), config["model"].pop("length")))
    said = refused(folder)
    assert "missing action_scale, length; copy the file again; if an older version saved it so" in said
    stamp(folder)
    assert from_pretrained(folder).config == replace(TINY, action_scale=1.0, length=5.0)


def test_models_saved_before_a_setting_was_added_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Later(type(TINY)):  # type: ignore[misc]
        added: int = 7

    monkeypatch.setitem(KINDS, "latent", ModelKind("latent", LatentWorldModel, Later))
    loaded = from_pretrained(folder)
    assert loaded.config.added == 7


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("radius", "wide", "radius: expected a finite number, got 'wide'"),
        ("radius", float("nan"), "radius: expected a finite number, got nan"),
        ("radius", 10**400, "radius: expected a finite number"),
        ("history", 3.0, "history: expected a whole number, got 3.0"),
        ("history", True, "history: expected a whole number, got True"),
        ("history", None, "history: expected a whole number, got None"),
        ("layout", 3, "layout: expected text, got 3"),
        ("distance_weights", [1.0, "x"], "distance_weights: expected in the list a finite number"),
        ("depht", 3, "expected no other settings than .*, got 'depht'"),
    ],
)
def test_settings_of_another_kind_are_named(folder: Path, name: str, value: Any, message: str, stamped: bool) -> None:
    edit(folder, lambda config: config["model"].update({name: value}))
    if not stamped:
        unstamp(folder)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)
    with pytest.raises(ValueError, match=message):
        stamp(folder)


@pytest.mark.parametrize(
    "change", [{"radius": 10**30}, {"encoder_hidden": 10**15}, {"history": 0}, {"dynamics_hidden": 2**62}]
)
def test_settings_out_of_all_bounds_are_one_sentence(folder: Path, change: dict[str, Any]) -> None:
    unstamp(folder)
    edit(folder, lambda config: config["model"].update(change))
    if "radius" in change:
        from_pretrained(folder)  # strange, but a number
    else:
        assert "config.json: expected the settings of a world model, got" in refused(folder)


@pytest.mark.parametrize("model", [None, [], "latent", 3])
def test_settings_must_be_an_object(folder: Path, model: Any) -> None:
    edit(folder, lambda config: config.update(model=model))
    assert "expected an object with a value for each setting" in refused(folder)


@pytest.mark.parametrize("kind", [[], {}, None, 3])
def test_a_kind_is_a_name(folder: Path, kind: Any) -> None:
    edit(folder, lambda config: config.update(kind=kind))
    assert "expected a model of kind" in refused(folder)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    model = LatentWorldModel(replace(TINY, action_limit=float("inf")))
    with pytest.raises(ValueError, match=r"save_pretrained: settings of the model: action_limit: expected a finite"):
        save_pretrained(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


# ---- weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_must_be_finite(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors")
    unstamp(folder)
    assert f"expected finite weights, got NaN or infinity in {name}" in refused(folder)


def test_weights_must_be_numbers_of_the_same_kind(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: weights[name].view(torch.int32)}, folder / "model.safetensors")
    unstamp(folder)
    assert f"of another shape or type ['{name}']" in refused(folder)
    save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors")
    from_pretrained(folder)


def test_a_header_that_promises_more_than_the_file_holds(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [10**12]
    header[name]["data_offsets"] = [0, 4 * 10**12]
    text = json.dumps(header).encode()
    for content in (
        struct.pack("<Q", len(text)) + text + whole[8 + length :],
        struct.pack("<Q", 10**15) + whole[8:],
        struct.pack("<Q", 2**64 - 1) + whole[8:],
    ):
        file.write_bytes(content)
        assert "expected a whole safetensors file" in refused(folder)


# ---- files ---------------------------------------------------------------------------------------------------


def test_a_large_config_is_not_read(folder: Path) -> None:
    edit(folder, lambda config: config.update(info="x" * 1_000_001))
    assert "config.json: expected a JSON file of at most 1 MB, got 1 MB" in refused(folder)


def test_a_killed_save_leaves_nothing_that_loads_as_another_model(folder: Path) -> None:
    """Weights take their place before config.json: between the two the folder is refused; the next save mends it."""
    torch.manual_seed(3)
    other = LatentWorldModel(TINY)
    config = (folder / "config.json").read_bytes()
    save_pretrained(other, folder)
    (folder / "config.json").write_bytes(config)
    (folder / ".partial-files").mkdir()
    (folder / ".partial-files" / "config.json").write_text("{")
    assert "expected the file that was saved with config.json" in refused(folder)
    save_pretrained(other, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = from_pretrained(folder).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in other.state_dict().items())
