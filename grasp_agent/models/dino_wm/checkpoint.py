"""Loading the checkpoints that the authors of DINO-WM publish.

What gaoyuezhou/dino_wm writes of a training:

    hydra.yaml                       settings; read here: img_size, frameskip, num_hist, num_pred, concat_dim,
                                     num_action_repeat, num_proprio_repeat, encoder, predictor.heads
    checkpoints/model_latest.pth     a dictionary of whole pickled modules:
        predictor                      pos_embedding [1, h P, D], transformer.layers.<i>.0 (attention: norm, to_qkv,
                                       to_out.0), transformer.layers.<i>.1.net (MLP: norm 0, linear 1 and 4),
                                       transformer.norm
        action_encoder                 patch_embed, a convolution of width 1 over time: psi
        proprio_encoder                patch_embed: phi
        encoder                        only if it was trained too; the DINOv2 of the paper is not, and not in the file
        the rest                       not needed: see `IGNORED`

Sizes follow from the weights. Images count from -1 to 1 there (mean and deviation 0.5), whatever DINOv2 was trained
on. Actions and proprioception count in deviations from their mean over the training data, which neither file holds:
they are to be given. The modules' classes are neither needed nor run (see `inert_pickle.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grasp_agent.models.dino_wm.backbone import load_backbone
from grasp_agent.models.dino_wm.inert_pickle import read_inert, state_dict
from grasp_agent.models.dino_wm.model import DinoWMConfig, DinoWorldModel

PARTS = ("predictor", "action_encoder", "proprio_encoder")
IGNORED = {
    "decoder": "a VQ-VAE that draws pictures; planning does not need it",
    "epoch": "a count",
    "encoder_optimizer": "state of training",
    "predictor_optimizer": "state of training",
    "decoder_optimizer": "state of training",
    "action_encoder_optimizer": "state of training",
}
"""Entries of a checkpoint that are left out, and why."""

DECODER_SCALE = 16
"""Pixels of the frames per patch; the frames are resized so that this is one patch of the backbone."""

_EMBEDDINGS = {"patch_embed.weight": "weight", "patch_embed.bias": "bias"}
_BLOCK = {
    "0.norm": "norm",
    "0.to_qkv": "qkv",
    "0.to_out.0": "out",
    "1.net.0": "mlp.0",
    "1.net.1": "mlp.1",
    "1.net.4": "mlp.4",
}


def load_dino_wm_checkpoint(
    path: str | Path,
    backbone: str | Path | nn.Module = "facebook/dinov2-small",
    *,
    action_mean: Sequence[float] | None = None,
    action_std: Sequence[float] | None = None,
    action_limit: float | None = None,
    proprio_mean: Sequence[float] | None = None,
    proprio_std: Sequence[float] | None = None,
) -> DinoWorldModel:
    """Load a published DINO-WM checkpoint.

    The decoder and the state of training are left out (`IGNORED`); every other entry and every weight must be one
    that is known, and none may be missing.

    Args:
        path: the folder with hydra.yaml, or the .pth file in it or in its folder checkpoints.
        backbone: DINOv2 of the size that the model was trained on, as `load_backbone` takes it, or what it returned.
        action_mean: mean of one environment action over the training data, [action_dim]; None is zero.
        action_std: its deviation, [action_dim]; None is one.
        action_limit: as in `DinoWMConfig`.
        proprio_mean: mean of the proprioception, [proprio_dim]; None is zero.
        proprio_std: its deviation, [proprio_dim]; None is one.

    Returns:
        The model in evaluation mode, without a decoder.

    Raises:
        FileNotFoundError: the checkpoint or its hydra.yaml is missing.
        ValueError: either is damaged or of another layout (the message names the keys), the checkpoint was made with
            settings that are not supported, or the backbone does not fit.
        ImportError: `transformers` is not installed.
    """
    file, settings_file = _locate(Path(path))
    settings = _read_settings(settings_file)
    content = read_inert(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a dictionary of modules, got {type(content).__name__}")
    if "encoder" in content:
        raise ValueError(
            f"{file}: expected a checkpoint of a frozen encoder, got one whose encoder was trained as well; such models"
            " are not supported"
        )
    _check_keys(str(file), set(PARTS), set(content) - IGNORED.keys())
    weights = {part: _weights(file, part, content[part]) for part in PARTS}

    history, image_size = int(settings["num_hist"]), int(settings["img_size"])
    grid = image_size // DECODER_SCALE
    translated = _translate(file, weights, history, grid)
    heads = int(settings["predictor"]["heads"])
    action_size, proprio_dim = (weights[part]["patch_embed.weight"].shape[1] for part in PARTS[1:])
    block = int(settings["frameskip"])
    inner = translated["predictor.blocks.0.out.weight"].shape[1]
    if action_size % block or inner % heads:
        raise ValueError(
            f"{file}: expected actions in blocks of frameskip = {block} and heads = {heads} of equal width, got"
            f" {action_size} numbers in a block and {inner} in all heads; is {settings_file} of another training?"
        )
    config = DinoWMConfig(
        image_size=image_size,
        grid=grid,
        pixel_mean=(0.5,) * 3,
        pixel_std=(0.5,) * 3,
        history=history,
        action_dim=action_size // block,
        action_block=block,
        action_mean=_numbers(action_mean),
        action_std=_numbers(action_std),
        action_limit=action_limit,
        action_features=weights["action_encoder"]["patch_embed.weight"].shape[0],
        proprio_dim=proprio_dim,
        proprio_mean=_numbers(proprio_mean),
        proprio_std=_numbers(proprio_std),
        proprio_features=weights["proprio_encoder"]["patch_embed.weight"].shape[0],
        depth=sum(name.endswith("qkv.weight") for name in translated),
        heads=heads,
        dim_head=inner // heads,
        mlp_dim=translated["predictor.blocks.0.mlp.1.weight"].shape[0],
        dropout=float(settings["predictor"].get("dropout", 0.0)),
    )
    features = backbone if isinstance(backbone, nn.Module) else load_backbone(backbone, grid)
    width = translated["predictor.norm.weight"].shape[0] - config.action_features - config.proprio_features
    found: Any = features.config
    if found.hidden_size != width:
        raise ValueError(
            f"backbone: expected one with {width} features per patch, as {file} was trained on"
            f" ({settings['encoder'].get('name', 'its name is not told')}), got {found.hidden_size}"
        )
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced below
        model = DinoWorldModel(config, features)
    expected = {name: x for name, x in model.state_dict().items() if not name.startswith("backbone.")}
    _check_keys(str(file), set(expected), set(translated))
    misfit = sorted(name for name, x in expected.items() if x.shape != translated[name].shape)
    if misfit:
        shapes = ", ".join(
            f"{name} {list(expected[name].shape)} (got {list(translated[name].shape)})" for name in misfit
        )
        raise ValueError(f"{file}: expected weights that fit {settings_file}: {shapes}")
    model.load_state_dict(translated, strict=False)  # the backbone has its own
    return model.eval()


def _translate(file: Path, weights: dict[str, dict[str, Tensor]], history: int, grid: int) -> dict[str, Tensor]:
    """Published weights under our names; every key is checked."""
    predictor = dict(weights["predictor"])
    depth = len({name.split(".")[2] for name in predictor if name.startswith("transformer.layers.")})
    names = {
        "pos_embedding": "position",
        "transformer.norm.weight": "norm.weight",
        "transformer.norm.bias": "norm.bias",
    }
    for i in range(depth):
        for theirs, ours in _BLOCK.items():
            for part in ("weight", "bias") if ours != "qkv" else ("weight",):
                names[f"transformer.layers.{i}.{theirs}.{part}"] = f"blocks.{i}.{ours}.{part}"
    tables = {
        "predictor": ("predictor", names),
        "action_encoder": ("action_embedding", _EMBEDDINGS),
        "proprio_encoder": ("proprio_embedding", _EMBEDDINGS),
    }
    translated: dict[str, Tensor] = {}
    for part, (ours, table) in tables.items():
        _check_keys(f"{file}: {part}", set(table), set(weights[part]))
        translated |= {f"{ours}.{table[name]}": value.float() for name, value in weights[part].items()}
    if depth == 0:
        raise ValueError(f"{file}: predictor: expected at least one block transformer.layers.0, got none")
    position = translated["predictor.position"]
    if position.ndim != 3 or position.shape[1] != history * grid**2:
        raise ValueError(
            f"{file}: predictor: expected pos_embedding of shape [1, {history * grid**2}, any] (num_hist = {history}"
            f" frames of {grid} x {grid} patches), got {list(position.shape)}"
        )
    translated["predictor.position"] = position.view(history, grid**2, -1)
    for ours in ("action_embedding", "proprio_embedding"):
        kernel = translated[f"{ours}.weight"]
        if kernel.ndim != 3 or kernel.shape[2] != 1:
            raise ValueError(f"{file}: expected a convolution of width 1 (tubelet_size), got {list(kernel.shape)}")
        translated[f"{ours}.weight"] = kernel.squeeze(2)
    return translated


def _check_keys(where: str, expected: set[str], found: set[str]) -> None:
    """Raise unless the keys are the expected ones, to the last."""
    if expected != found:
        raise ValueError(
            f"{where}: expected the layout of DINO-WM; missing {sorted(expected - found) or 'nothing'}, unexpected"
            f" {sorted(map(str, found - expected)) or 'nothing'}"
        )


def _weights(file: Path, part: str, module: Any) -> dict[str, Tensor]:
    try:
        return state_dict(module)
    except ValueError as error:
        raise ValueError(f"{file}: {part}: {error}") from None


def _locate(path: Path) -> tuple[Path, Path]:
    """The checkpoint and its hydra.yaml, from either's folder or the checkpoint itself."""
    file = path / "checkpoints" / "model_latest.pth" if path.is_dir() else path
    folders = (file.parent, file.parent.parent)
    settings = next((folder / "hydra.yaml" for folder in folders if (folder / "hydra.yaml").is_file()), None)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a DINO-WM checkpoint, found none")
    if settings is None:
        raise FileNotFoundError(f"{file}: expected hydra.yaml beside it or one folder up, found none")
    return file, settings


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise ImportError("reading hydra.yaml needs PyYAML: pip install 'grasp-agent[dino]'") from None
    try:
        settings = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    wanted = ("img_size", "frameskip", "num_hist", "encoder", "predictor")
    if not isinstance(settings, dict) or any(key not in settings for key in wanted):
        raise ValueError(f"{file}: expected the settings of a DINO-WM training, with {', '.join(wanted)}")
    fixed = {"num_pred": 1, "concat_dim": 1, "num_action_repeat": 1, "num_proprio_repeat": 1}
    wrong = {key: settings.get(key, value) for key, value in fixed.items() if settings.get(key, value) != value}
    encoder = settings["encoder"]
    if encoder.get("feature_key", "x_norm_patchtokens") != "x_norm_patchtokens":
        wrong["encoder.feature_key"] = encoder["feature_key"]
    if wrong:
        raise ValueError(
            f"{file}: expected a model that predicts DINOv2's patches one step ahead, with proprioception and action"
            f" appended to every patch once, got {', '.join(f'{key} = {value}' for key, value in wrong.items())}"
        )
    return settings


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(x) for x in torch.as_tensor(values).flatten())
