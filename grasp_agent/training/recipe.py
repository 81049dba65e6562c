"""The whole training: encoder, latents of all frames, dynamics, metrics, pictures, model.

OUT/model/            config.json, model.safetensors: for `load_world_model`
OUT/metrics.json      errors on held-out episodes
OUT/rollouts.png      decoded rollouts under the real frames
OUT/curves.png, log.jsonl
OUT/*.pt, latents.npy state of training, to resume from; may be deleted when done
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.io import save_pretrained
from grasp_agent.models.world_model import PUSH_STATE_SIZE, LatentWorldModel, WorldModelConfig
from grasp_agent.training.dynamics import DynamicsTask
from grasp_agent.training.loop import Stage, read_log, run_stage
from grasp_agent.training.planar_push import RADIUS, latents_of_states
from grasp_agent.training.report import HORIZONS, latent_errors, prediction_errors, save_curves, save_rollout_picture
from grasp_agent.training.representation import RepresentationTask, encode_dataset

OnLog = Callable[[str, int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How a world model is trained.

    Attributes:
        model: sizes and structure.
        encoder: schedule of stage 1.
        dynamics: schedule of stage 2.
        unroll: model steps the dynamics is rolled out in training.
        supervision_weight: of the pose in stage 1; used with layout "planar_push", which needs simulator states
            in the data.
        held_out: share of the episodes kept for validation.
        seed: of initialisation and batches.
    """

    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    encoder: Stage = Stage("encoder", steps=4_000, batch=128, learning_rate=1.5e-3)
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=512, learning_rate=1e-3)
    unroll: int = 12
    supervision_weight: float = 5.0
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unroll < 1:
            raise ValueError(f"unroll: expected at least 1 model step, got {self.unroll}")
        if self.supervision_weight < 0:
            raise ValueError(f"supervision_weight: expected 0 or more, got {self.supervision_weight}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out: expected a share between 0 and 1, got {self.held_out}; try 0.05")


def pusht_recipe() -> Recipe:
    """The recipe of the shipped Push-T model: about two hours on 2 CPU cores."""
    return Recipe(
        model=WorldModelConfig(
            layout="planar_push",
            state_size=PUSH_STATE_SIZE,
            radius=RADIUS,
            action_scale=0.3,
            action_limit=0.5,
        )
    )


def generic_recipe() -> Recipe:
    """Free latents from reconstruction alone: any image environment with a Box action space, no simulator state."""
    return Recipe(model=WorldModelConfig(layout="free", state_size=32, action_block=5), unroll=8)


RECIPES: dict[str, Callable[[], Recipe]] = {"pusht": pusht_recipe, "generic": generic_recipe}


def train(
    data: EpisodeDataset,
    recipe: Recipe,
    out: str | Path,
    device: str | torch.device = "cpu",
    on_log: OnLog | None = None,
    on_message: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train a world model on collected episodes, going on from what `out` already holds.

    Args:
        data: episodes; frames of the size the recipe's model reads.
        recipe: what to train and how long.
        out: output folder.
        device: where to compute; bfloat16 is used on CUDA.
        on_log: progress of a stage.
        on_message: one line of text when a stage begins.

    Returns:
        The metrics, also written to metrics.json.

    Raises:
        ValueError: the data do not fit the recipe, or `out` was begun with another recipe.
    """
    out = Path(out)
    say = on_message or (lambda text: None)
    config = recipe.model
    training, held_out = data.split(recipe.held_out)
    _check(data, recipe, training, held_out)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, recipe, data)

    with torch.random.fork_rng():  # initial weights by seed, the caller's generator untouched
        torch.manual_seed(recipe.seed)
        model = LatentWorldModel(config).to(device)
    half = model.device.type == "cuda"
    planar = config.layout == "planar_push"
    targets = latents_of_states(data.states) if planar and data.states is not None else None

    first = RepresentationTask(
        model, data, data.frame_numbers(training), targets, recipe.encoder.batch, recipe.supervision_weight
    )
    say(f"stage 1 of 2, encoder and decoder: {recipe.encoder.steps} steps of {recipe.encoder.batch} frames")
    run_stage(recipe.encoder, first.module, first.draw, first.losses, out, recipe.seed, on_log, half)

    cache = out / "latents.npy"
    if not cache.is_file():
        say(f"encoding {len(data)} frames")
        temporary = out / ".latents.npy"
        np.save(temporary, encode_dataset(model, data))
        os.replace(temporary, cache)
    latents = np.load(cache)

    second = DynamicsTask(model, data, latents, training, recipe.dynamics.batch, recipe.unroll, symmetry=planar)
    say(f"stage 2 of 2, dynamics: {recipe.dynamics.steps} steps of {recipe.dynamics.batch} windows")
    run_stage(recipe.dynamics, second.module, second.draw, second.losses, out, recipe.seed + 1, on_log, half)

    longest = min(HORIZONS[-1], int(data.lengths[held_out].max()) - 1) // config.action_block
    validation = DynamicsTask(model, data, latents, held_out, recipe.dynamics.batch, longest, symmetry=False)
    metrics: dict[str, Any] = {
        "frames": len(data),
        "episodes": len(data.lengths),
        "held_out_episodes": len(held_out),
    }
    if planar and data.states is not None:
        metrics["errors_by_step"] = prediction_errors(model, validation, data.states)
    else:
        metrics["relative_latent_error_by_step"] = latent_errors(model, validation)
    save_pretrained(model, out / "model", {"recipe": _plain(recipe), "metrics": metrics, "data": data.meta["settings"]})
    _write_json(out / "metrics.json", metrics)
    if model.decoder is not None:
        save_rollout_picture(model, data, validation, out / "rollouts.png")
    save_curves(read_log(out), out / "curves.png")
    return metrics


def _check(data: EpisodeDataset, recipe: Recipe, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> None:
    """Say now what would otherwise fail after hours."""
    config = recipe.model
    planar = config.layout == "planar_push"
    if data.image_size != config.image_size:
        raise ValueError(
            f"{data.folder}: expected frames of {config.image_size} px, got {data.image_size}; "
            f"collect with --resolution {config.image_size}"
        )
    if data.actions.shape[1] != config.action_dim:
        raise ValueError(f"{data.folder}: expected actions of {config.action_dim} numbers, got {data.actions.shape[1]}")
    if planar and (data.states is None or data.states.shape[1] < 5):
        raise ValueError(
            f"{data.folder}: layout 'planar_push' is trained with simulator states (x, y, x, y, angle), which are "
            "missing; try the recipe 'generic'"
        )
    for name, values in (("actions", data.actions), ("states", data.states if planar else None)):
        bad = 0 if values is None else int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise ValueError(
                f"{data.folder}: expected finite {name}, got NaN or infinity in {bad} of {len(data)} frames; "
                "collect them again"
            )
    data.windows(training, recipe.unroll * config.action_block + 1)
    data.windows(held_out, config.action_block + 1)


def _claim(out: Path, recipe: Recipe, data: EpisodeDataset) -> None:
    """Refuse to mix two trainings in one folder."""
    claim = {"recipe": _plain(recipe), "data": data.meta["settings"], "frames": len(data)}
    path = out / "training.json"
    advice = "choose a new output folder"
    if path.is_file():
        try:
            there = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise ValueError(f"{path}: expected the settings of a training, got something else; {advice}") from None
        if there != claim:
            parts = sorted(k for k in claim if there.get(k) != claim[k])
            raise ValueError(f"{out}: holds a training with another {' and '.join(parts)}; {advice}")
        return
    _write_json(path, claim)


def _plain(recipe: Recipe) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
