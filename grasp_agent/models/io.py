"""Saving and loading world models: a folder with config.json and model.safetensors; never pickle.

A model on a pretrained backbone has that beside it, in backbone/, as `transformers` writes it.

load_world_model("pusht")              shipped with the package
load_world_model("runs/train/model")   a folder written by `save_pretrained` or `grasp-agent train`
load_world_model("owner/name")         a Hugging Face hub repository (extra `[hub]`)
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from grasp_agent.models.dino_wm.backbone import load_backbone, save_backbone
from grasp_agent.models.dino_wm.model import DinoWMConfig, DinoWorldModel
from grasp_agent.models.latent.model import LatentWorldModel, WorldModelConfig

SavedModel = LatentWorldModel | DinoWorldModel

FORMAT = "grasp-agent world model"
FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
BACKBONE_NAME = "backbone"
KINDS = {"latent": LatentWorldModel, "dino_wm": DinoWorldModel}
"""What config.json says under "kind"; files from before there were two do not say and hold the first."""
PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the world models that ship with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_NAME}"))


def save_pretrained(model: SavedModel, folder: str | Path, info: dict[str, Any] | None = None) -> Path:
    """Write config.json and model.safetensors, each under a temporary name first.

    Args:
        model: what to save.
        folder: created if need be.
        info: anything worth keeping with it (data, recipe, metrics), JSON-serialisable.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": next(kind for kind, known in KINDS.items() if isinstance(model, known)),
        "model": dataclasses.asdict(model.config),
        "info": info or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in _own_weights(model).items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        written = Path(temporary)
        names = [WEIGHTS_NAME, CONFIG_NAME]
        if isinstance(model, DinoWorldModel):
            save_backbone(model.backbone, written / BACKBONE_NAME)
            (folder / BACKBONE_NAME).mkdir(exist_ok=True)
            names = [f"{BACKBONE_NAME}/{path.name}" for path in (written / BACKBONE_NAME).iterdir()] + names
        save_file(weights, written / WEIGHTS_NAME, metadata={"format": "pt"})
        (written / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
        for name in names:
            os.chmod(written / name, 0o644)  # safetensors writes files that only their owner may read
            os.replace(written / name, folder / name)
    return folder


def from_pretrained(folder: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load what `save_pretrained` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, of another format, or its weights do not fit the configuration.
        ImportError: the model's backbone needs `transformers`, which is not installed.
    """
    folder = Path(folder)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: expected a world model folder with {name}, which is missing")
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG_NAME}: expected JSON, got something else ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{folder / CONFIG_NAME}: expected format {FORMAT!r}, got {found!r}")
    if config.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG_NAME}: expected version {FORMAT_VERSION}, got {config.get('version')!r}; "
            "try a newer grasp-agent or train the model again"
        )
    kind = config.get("kind", "latent")
    if kind not in KINDS:
        raise ValueError(
            f"{folder / CONFIG_NAME}: expected a model of kind {' or '.join(KINDS)}, got {kind!r}; "
            "try a newer grasp-agent"
        )
    model: SavedModel
    try:
        if kind == "dino_wm":
            settings = DinoWMConfig(**config["model"])
            if not (folder / BACKBONE_NAME / CONFIG_NAME).is_file():
                raise FileNotFoundError(
                    f"{folder}: expected a world model folder with {BACKBONE_NAME}/{CONFIG_NAME}, which is missing"
                )
            model = DinoWorldModel(settings, load_backbone(folder / BACKBONE_NAME, settings.grid))
        else:
            model = LatentWorldModel(WorldModelConfig(**config["model"]))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder / CONFIG_NAME}: expected the settings of a world model, got {error}") from None
    try:
        weights = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder / WEIGHTS_NAME}: expected a whole safetensors file, got a truncated or other file "
            f"({error}); try copying it again"
        ) from None
    expected = _own_weights(model)
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    misfit = sorted(k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape)
    if missing or unknown or misfit:
        raise ValueError(
            f"{folder / WEIGHTS_NAME}: weights do not fit {CONFIG_NAME}: missing {missing[:3]}, unknown "
            f"{unknown[:3]}, of another shape {misfit[:3]}"
        )
    model.load_state_dict(weights, strict=False)  # the backbone has brought its own
    return model.to(device or "cpu").eval()


def _own_weights(model: SavedModel) -> dict[str, Tensor]:
    """The weights that belong into model.safetensors: all but the backbone's."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(f"{BACKBONE_NAME}.")}


def load_world_model(name_or_path: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load a world model by its shipped name, a folder, or a Hugging Face hub id ("owner/name").

    Raises:
        ValueError: nothing of that name; the message lists what ships with the package.
        FileNotFoundError, ValueError: as `from_pretrained`.
        ImportError: a hub id without huggingface_hub, or a backbone without transformers.
    """
    if str(name_or_path) in pretrained_names():
        return from_pretrained(PRETRAINED / str(name_or_path), device)
    if Path(name_or_path).is_dir():
        return from_pretrained(name_or_path, device)
    name = str(name_or_path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir():
        return from_pretrained(_download(name), device)
    raise ValueError(
        f"unknown world model {name!r}: expected one of {pretrained_names()}, an existing folder, or a "
        f"hub id 'owner/name'"
    )


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ImportError(
            f"world model {hub_id!r} is not a folder here; to load it from the hub install the extra: "
            f"pip install 'grasp-agent[hub]'"
        ) from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME, f"{BACKBONE_NAME}/*"]))
    except Exception as error:  # the hub client raises many kinds, network errors among them
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"world model {hub_id!r}: no such folder here, and the hub did not give it ({first})"
        ) from None
