"""Saving and loading world models: a folder with config.json and model.safetensors; never pickle.

A model with a pretrained part has that beside it, in a folder of its own. Which classes can be saved: see registry.py.
config.json holds the SHA-256 of the settings and of every other file, by which loading notices what was changed since.

load_world_model("pusht")              shipped with the package
load_world_model("runs/train/model")   a folder written by `save_pretrained` or `grasp-agent train`
load_world_model("owner/name")         a Hugging Face hub repository (extra `[hub]`)
"""

from __future__ import annotations

import dataclasses
import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from grasp_agent.core.checks import shown, usable_device
from grasp_agent.files.atomic import filling, write_json
from grasp_agent.files.digest import json_sha256, sha256
from grasp_agent.files.reading import read_json
from grasp_agent.files.settings import check_settings
from grasp_agent.models.registry import KINDS, ModelKind, SavedModel, kind_of
from grasp_agent.models.trust import trusted_steps

FORMAT = "grasp-agent world model"
FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FIRST_KIND = "latent"
"""What files hold that say no kind."""
DIGESTS, SETTINGS = "sha256", "settings"
"""Where config.json holds the digests, and the name of that of the settings; the others go by their files."""
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
        ValueError: its settings are not what their class says, or not finite.
        OSError: a file cannot be written.
    """
    kind, folder = kind_of(model), Path(folder)
    config = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": kind.name,
        "model": json.loads(json.dumps(dataclasses.asdict(model.config))),  # as it will be read back
        "info": info or {},
    }
    try:
        check_settings(kind.config, config["model"])
    except ValueError as error:
        raise ValueError(f"save_pretrained: settings of the model: {error}") from None
    weights = {name: value.detach().cpu().contiguous() for name, value in _own_weights(model, kind).items()}
    with filling(folder, last=CONFIG_NAME) as written:
        if kind.part is not None:
            kind.part.save(getattr(model, kind.part.name), written / kind.part.name)
        save_file(weights, written / WEIGHTS_NAME, metadata={"format": "pt"})
        text = json.dumps({**config, DIGESTS: _digests(config, kind, written)}, indent=2)
        (written / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        for file in written.rglob("*"):
            if file.is_file():
                os.chmod(file, 0o644)  # safetensors writes files that only their owner may read
    return folder


def stamp(folder: str | Path) -> None:
    """Write the digests of a model folder's settings and files, as they are now, into its config.json.

    For folders that an older version saved, and for those that were edited on purpose: `from_pretrained` then notices
    every later change. Settings that the file lacks count as left out on purpose and take their defaults.

    Raises:
        FileNotFoundError, ValueError: as `from_pretrained`.
    """
    folder = Path(folder)
    config, kind = _read_config(folder)
    try:
        check_settings(kind.config, config.get("model"), complete=False)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_NAME}: settings of the model: {error}") from None
    write_json(folder / CONFIG_NAME, {**config, DIGESTS: _digests(config, kind, folder)})


def from_pretrained(folder: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load what `save_pretrained` wrote, in evaluation mode; no random numbers of the caller are used.

    All settings must be there. Those that a later version added may be missing where config.json has digests, which
    tell that nobody took them out; they take their defaults.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, changed since it was saved, or of another format; settings are missing, unknown
            or of another kind; or the weights are not finite, or do not fit the configuration.
        ImportError: a part of the model needs a package that is not installed.
    """
    folder = Path(folder)
    config, kind = _read_config(folder)
    _check_config(folder, config, kind)
    try:
        settings = kind.config(**config["model"])
        parts = () if kind.part is None else (kind.part.load(folder / kind.part.name, settings),)
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced at once
            model: Any = kind.model(settings, *parts)
    except (ImportError, OSError):
        raise
    except Exception as error:  # sizes that are out of all bounds can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder / CONFIG_NAME}: expected the settings of a world model, got {reason}") from None
    weights = _read_weights(folder / WEIGHTS_NAME, _own_weights(model, kind))
    _check_files(folder, config)
    model.load_state_dict(weights, strict=False)  # a part has brought its own
    _check_finite(folder, model)
    loaded: SavedModel = model.to(device or "cpu").eval()
    info = config.get("info", {})
    loaded.trained_on = tuple(info.get("data", ()))
    loaded.trusted_steps = trusted_steps(info.get("metrics"))
    return loaded


def _read_config(folder: Path) -> tuple[dict[str, Any], ModelKind]:
    """A model folder's config.json, of this format and of a known kind, and the kind."""
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: expected a world model folder with {name}, which is missing")
    file = folder / CONFIG_NAME
    config = read_json(file)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{file}: expected format {FORMAT!r}, got {found!r}")
    if config.get("version") != FORMAT_VERSION or config["version"] is True:
        raise ValueError(
            f"{file}: expected version {FORMAT_VERSION}, got {config.get('version')!r}; "
            "try a newer grasp-agent or train the model again"
        )
    name = config.get("kind", FIRST_KIND)
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(
            f"{file}: expected a model of kind {' or '.join(sorted(KINDS))}, got {name!r}; "
            "try a newer grasp-agent, or register_model if the class is yours"
        )
    return config, KINDS[name]


def _check_config(folder: Path, config: dict[str, Any], kind: ModelKind) -> None:
    """Check the settings, by their class and by their digest."""
    file = folder / CONFIG_NAME
    stamped, is_stamped = config.get(DIGESTS), DIGESTS in config
    if is_stamped and not (isinstance(stamped, dict) and {SETTINGS, WEIGHTS_NAME} <= stamped.keys()):
        raise ValueError(
            f"{file}: expected digests of {SETTINGS} and {WEIGHTS_NAME} under {DIGESTS!r}, got {stamped!r}"
        )
    try:
        check_settings(kind.config, config.get("model"), complete=not is_stamped)
    except ValueError as error:
        hint = (
            "" if stamped is not None else "; if an older version saved it so, call grasp_agent.models.io.stamp on it"
        )
        raise ValueError(f"{file}: settings of the model: {error}; copy the file again{hint}") from None
    if stamped and stamped[SETTINGS] != _settings_digest(config):
        raise ValueError(
            f"{file}: expected the settings that the model was saved with, got others (their SHA-256 differs); copy the"
            " file again, or call grasp_agent.models.io.stamp on the folder if they were changed on purpose"
        )


def _check_files(folder: Path, config: dict[str, Any]) -> None:
    """Check the digests of all files that have one."""
    for name, digest in config.get(DIGESTS, {}).items():
        file = folder / name
        if name == SETTINGS:
            continue
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise FileNotFoundError(f"{folder}: expected a world model folder with {name}, which is missing")
        if sha256(file) != digest:
            raise ValueError(
                f"{file}: expected the file that was saved with {CONFIG_NAME}, got another (its SHA-256 differs); copy"
                " the folder again"
            )


def _read_weights(file: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file}: expected a whole safetensors file, got a truncated or other file ({error}); try copying it again"
        ) from None
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    misfit = sorted(k for k in expected.keys() & weights.keys() if not _alike(expected[k], weights[k]))
    if missing or unknown or misfit:
        raise ValueError(
            f"{file}: weights do not fit {CONFIG_NAME}: missing {missing[:3]}, unknown "
            f"{unknown[:3]}, of another shape or type {misfit[:3]}"
        )
    return weights


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, and are both of fractions or of the same type."""
    return one.shape == other.shape and (
        one.dtype == other.dtype or (one.is_floating_point() and other.is_floating_point())
    )


def _check_finite(folder: Path, model: nn.Module) -> None:
    """Refuse weights that are not finite, and buffers that are NaN; a buffer may hold infinity, as masks do."""
    parameters = dict(model.named_parameters())
    for name, value in model.state_dict().items():
        wrong = ~value.isfinite() if name in parameters else value.isnan()
        if wrong.any():
            raise ValueError(
                f"{folder}: expected finite weights, got NaN or infinity in {name}; copy the folder again, or train the"
                " model again"
            )


def _settings_digest(config: dict[str, Any]) -> str:
    return json_sha256({"kind": config.get("kind", FIRST_KIND), "model": config["model"]})


def _digests(config: dict[str, Any], kind: ModelKind, folder: Path) -> dict[str, str]:
    """Digests of the settings and of the files in `folder` that a model of this kind consists of."""
    files = [folder / WEIGHTS_NAME]
    if kind.part is not None:
        files += sorted(path for path in (folder / kind.part.name).rglob("*") if path.is_file())
    return {SETTINGS: _settings_digest(config)} | {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def _own_weights(model: SavedModel, kind: ModelKind) -> dict[str, Tensor]:
    """The weights that belong into model.safetensors: all but those of a part."""
    apart = () if kind.part is None else (f"{kind.part.name}.",)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(apart)}


def load_world_model(name_or_path: str | Path, device: str | torch.device | None = None) -> SavedModel:
    """Load a world model by its shipped name, a folder, or a Hugging Face hub id ("owner/name").

    Raises:
        TypeError: no name.
        ValueError: nothing of that name; the message lists what ships with the package. Or a device that is not there.
        FileNotFoundError, ValueError: as `from_pretrained`.
        ImportError: a hub id without huggingface_hub, or a part without its package.
    """
    if not isinstance(name_or_path, str | PathLike):
        raise TypeError(f"world model: expected a name or a folder, got {shown(name_or_path)}; try 'pusht'")
    device = usable_device(device)
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
