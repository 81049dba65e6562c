"""Saving and loading world models: a folder with config.json and model.safetensors; never pickle.

A model with a pretrained part has that beside it, in a folder of its own. Which classes can be saved: see registry.py.

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

from grasp_agent.models.registry import KINDS, ModelKind, SavedModel, kind_of

FORMAT = "grasp-agent world model"
FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FIRST_KIND = "latent"
"""What files hold that say no kind."""
PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the world models that ship with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_NAME}"))


def save_pretrained(model: SavedModel, folder: str | Path, info: dict[str, Any] | None = None) -> Path:
    """Write config.json and model.safetensors, each under a temporary name first.

    Args:
        model: what to save, of a registered class.
        folder: created if need be.
        info: anything worth keeping with it (data, recipe, metrics), JSON-serialisable.

    Returns:
        The folder.

    Raises:
        TypeError: the model's class is not registered; see `register_model`.
    """
    kind, folder = kind_of(model), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": kind.name,
        "model": dataclasses.asdict(model.config),
        "info": info or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in _own_weights(model, kind).items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        written = Path(temporary)
        names = [WEIGHTS_NAME, CONFIG_NAME]
        if kind.part is not None:
            kind.part.save(getattr(model, kind.part.name), written / kind.part.name)
            (folder / kind.part.name).mkdir(exist_ok=True)
            names = [f"{kind.part.name}/{path.name}" for path in (written / kind.part.name).iterdir()] + names
        save_file(weights, written / WEIGHTS_NAME, metadata={"format": "pt"})
        (written / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
        for name in names:
            os.chmod(written / name, 0o644)  # safetensors writes files that only their owner may read
            os.replace(written / name, folder / name)
    return folder


def from_pretrained(folder: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load what `save_pretrained` wrote, in evaluation mode; no random numbers of the caller are used.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, of another format, or its weights do not fit the configuration.
        ImportError: a part of the model needs a package that is not installed.
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
    name = config.get("kind", FIRST_KIND)
    if name not in KINDS:
        raise ValueError(
            f"{folder / CONFIG_NAME}: expected a model of kind {' or '.join(sorted(KINDS))}, got {name!r}; "
            "try a newer grasp-agent, or register_model if the class is yours"
        )
    kind = KINDS[name]
    try:
        settings = kind.config(**config["model"])
        parts = () if kind.part is None else (kind.part.load(folder / kind.part.name, settings),)
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced at once
            model: Any = kind.model(settings, *parts)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder / CONFIG_NAME}: expected the settings of a world model, got {error}") from None
    try:
        weights = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder / WEIGHTS_NAME}: expected a whole safetensors file, got a truncated or other file "
            f"({error}); try copying it again"
        ) from None
    expected = _own_weights(model, kind)
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    misfit = sorted(k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape)
    if missing or unknown or misfit:
        raise ValueError(
            f"{folder / WEIGHTS_NAME}: weights do not fit {CONFIG_NAME}: missing {missing[:3]}, unknown "
            f"{unknown[:3]}, of another shape {misfit[:3]}"
        )
    model.load_state_dict(weights, strict=False)  # a part has brought its own
    loaded: SavedModel = model.to(device or "cpu").eval()
    return loaded


def _own_weights(model: SavedModel, kind: ModelKind) -> dict[str, Tensor]:
    """The weights that belong into model.safetensors: all but those of a part."""
    apart = () if kind.part is None else (f"{kind.part.name}.",)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(apart)}


def load_world_model(name_or_path: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load a world model by its shipped name, a folder, or a Hugging Face hub id ("owner/name").

    Raises:
        ValueError: nothing of that name; the message lists what ships with the package.
        FileNotFoundError, ValueError: as `from_pretrained`.
        ImportError: a hub id without huggingface_hub, or a part without its package.
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
    parts = [f"{kind.part.name}/*" for kind in KINDS.values() if kind.part is not None]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME, *parts]))
    except Exception as error:  # the hub client raises many kinds, network errors among them
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"world model {hub_id!r}: no such folder here, and the hub did not give it ({first})"
        ) from None
