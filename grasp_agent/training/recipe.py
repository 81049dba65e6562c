"""The whole training: encoder, latents of all frames, dynamics, proposals, metrics, pictures, model.

OUT/model/            config.json, model.safetensors: for `load_world_model`
OUT/metrics.json      errors on held-out episodes; in pixels and degrees, and of probes (probes.py), where the data
                      hold simulator states of five or more numbers, which are taken for (x, y, x, y, angle, ...)
OUT/errors.png        the same as a picture
OUT/rollouts.png      decoded rollouts under the real frames
OUT/curves.png, log.jsonl
OUT/*.pt, latents.npy state of training, to resume from; may be deleted when done
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.io import load_world_model, save_pretrained
from grasp_agent.models.latent.model import PUSH_STATE_SIZE, LatentWorldModel, WorldModelConfig
from grasp_agent.models.planar_push import PUSHER_WEIGHT, RADIUS, latents_of_states
from grasp_agent.training.dynamics import DynamicsTask
from grasp_agent.training.folder import claim, write_json
from grasp_agent.training.joint import JointTask, whiten
from grasp_agent.training.loop import Stage, read_log, run_stage
from grasp_agent.training.probes import fit_pose_probes
from grasp_agent.training.proposal import ProposalTask
from grasp_agent.training.report import (
    HORIZONS,
    latent_errors,
    prediction_errors,
    probe_errors,
    save_curves,
    save_errors,
    save_rollout_picture,
)
from grasp_agent.training.representation import RepresentationTask, encode_dataset

OnLog = Callable[[str, int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How a world model is trained.

    Attributes:
        model: sizes and structure.
        representation: what makes the latent, in stage 1. "supervised": the simulator's pose, for layout "planar_push",
            which says what each number means. "reconstruction": drawing the frame from it. "joint": predicting it,
            together with the dynamics (joint.py).
        encoder: schedule of stage 1; its batch counts frames, with "joint" windows.
        dynamics: schedule of stage 2.
        proposal: schedule of stage 3, if the model proposes plans.
        unroll: model steps the dynamics is rolled out in training.
        supervision_weight: of the pose in stage 1; used with representation "supervised", which needs simulator
            states in the data.
        regularisation: of the latents' distribution in stage 1; used with representation "joint".
        held_out: share of the episodes kept for validation.
        seed: of initialisation and batches.
    """

    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    representation: Literal["supervised", "reconstruction", "joint"] = "reconstruction"
    encoder: Stage = Stage("encoder", steps=4_000, batch=128, learning_rate=1.5e-3)
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=512, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=12_000, batch=768, learning_rate=1e-3)
    unroll: int = 12
    supervision_weight: float = 5.0
    regularisation: float = 20.0
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.representation not in ("supervised", "reconstruction", "joint"):
            raise ValueError(
                f"representation: expected 'supervised', 'reconstruction' or 'joint', got {self.representation!r}"
            )
        if (self.representation == "supervised") != (self.model.layout == "planar_push"):
            raise ValueError(
                "representation: expected 'supervised' with layout 'planar_push' and another with layout 'free', "
                f"got {self.representation!r} with {self.model.layout!r}"
            )
        if self.unroll < 1:
            raise ValueError(f"unroll: expected at least 1 model step, got {self.unroll}")
        if self.supervision_weight < 0:
            raise ValueError(f"supervision_weight: expected 0 or more, got {self.supervision_weight}")
        if self.regularisation < 0:
            raise ValueError(f"regularisation: expected 0 or more, got {self.regularisation}")
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
            distance_weights=(PUSHER_WEIGHT, PUSHER_WEIGHT, 1.0, 1.0, 1.0, 1.0),
            proposal_hidden=256,
        ),
        representation="supervised",
    )


def generic_recipe() -> Recipe:
    """Free latents from reconstruction alone: any image environment with a Box action space, no simulator state."""
    return Recipe(model=WorldModelConfig(layout="free", state_size=32, action_block=5), unroll=8)


def joint_recipe() -> Recipe:
    """Free latents from prediction alone, encoder and dynamics together; no simulator state is read."""
    return Recipe(
        model=WorldModelConfig(layout="free", state_size=16, action_block=5),
        representation="joint",
        encoder=Stage("joint", steps=12_000, batch=32, learning_rate=1e-3),
        unroll=8,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"pusht": pusht_recipe, "generic": generic_recipe, "joint": joint_recipe}


def train(
    data: EpisodeDataset,
    recipe: Recipe,
    out: str | Path,
    device: str | torch.device = "cpu",
    initial: str | Path | None = None,
    on_log: OnLog | None = None,
    on_message: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train a world model on collected episodes, going on from what `out` already holds.

    Args:
        data: episodes; frames of the size the recipe's model reads. The metrics are of the first folder's held-out
            episodes.
        recipe: what to train and how long.
        out: output folder.
        device: where to compute; bfloat16 is used on CUDA.
        initial: a model to begin from, as `load_world_model` takes it; what it lacks begins at random.
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
    with torch.random.fork_rng():  # initial weights by seed, the caller's generator untouched
        torch.manual_seed(recipe.seed)
        model = LatentWorldModel(config)
        if initial is not None:
            _begin_from(model, initial)
        elif recipe.representation == "joint":
            some = np.random.default_rng(recipe.seed).choice(data.frame_numbers(training), 512)
            whiten(model.encoder, torch.from_numpy(data.frames(some)))
        model.to(device)
    # Only now that nothing can be wrong with the arguments any more is the folder taken.
    out.mkdir(parents=True, exist_ok=True)
    began_from = None if initial is None else str(initial)
    claim(out, {"recipe": asdict(recipe), "data": data.settings, "frames": len(data), "initial": began_from})
    half = model.device.type == "cuda"
    planar = config.layout == "planar_push"
    targets = latents_of_states(data.states) if planar and data.states is not None else None

    first: RepresentationTask | JointTask
    if recipe.representation == "joint":
        first = JointTask(model, data, training, recipe.encoder.batch, recipe.regularisation)
        parts, samples = "encoder and dynamics", "windows"
    else:
        frames = data.frame_numbers(training)
        first = RepresentationTask(model, data, frames, targets, recipe.encoder.batch, recipe.supervision_weight)
        parts, samples = "encoder and decoder", "frames"
    stages = 3 if model.proposal is not None else 2
    say(f"stage 1 of {stages}, {parts}: {recipe.encoder.steps} steps of {recipe.encoder.batch} {samples}")
    run_stage(recipe.encoder, first.module, first.draw, first.losses, out, recipe.seed, on_log, half)

    cache = out / "latents.npy"
    if not cache.is_file():
        say(f"encoding {len(data)} frames")
        temporary = out / ".latents.npy"
        np.save(temporary, encode_dataset(model, data))
        os.replace(temporary, cache)
    latents = np.load(cache)

    second = DynamicsTask(model, data, latents, training, recipe.dynamics.batch, recipe.unroll, symmetry=planar)
    say(f"stage 2 of {stages}, dynamics: {recipe.dynamics.steps} steps of {recipe.dynamics.batch} windows")
    run_stage(recipe.dynamics, second.module, second.draw, second.losses, out, recipe.seed + 1, on_log, half)

    if model.proposal is not None:
        third = ProposalTask(model, data, latents, training, recipe.proposal.batch, symmetry=planar)
        say(f"stage 3 of 3, plan proposals: {recipe.proposal.steps} steps of {recipe.proposal.batch} plans")
        run_stage(recipe.proposal, third.module, third.draw, third.losses, out, recipe.seed + 2, on_log, half)

    held_out = held_out[data.source[held_out] == 0]  # figures stay comparable when other data join the first
    longest = min(HORIZONS[-1], int(data.lengths[held_out].max()) - 1) // config.action_block
    validation = DynamicsTask(model, data, latents, held_out, recipe.dynamics.batch, longest, symmetry=False)
    metrics: dict[str, Any] = {
        "frames": len(data),
        "episodes": len(data.lengths),
        "held_out_episodes": len(held_out),
    }
    if data.states is not None and data.states.shape[1] >= 5 and np.isfinite(data.states).all():
        probes = fit_pose_probes(latents, data.states, data.frame_numbers(training), recipe.seed)
        metrics["probes"] = probe_errors(probes, latents, data.states, data.frame_numbers(held_out))
        read = (lambda latents: latents) if planar else probes["mlp"]
        metrics["errors_by_step"] = prediction_errors(model, validation, data.states, read)
    if not planar:
        metrics["relative_latent_error_by_step"] = latent_errors(model, validation)
    save_pretrained(model, out / "model", {"recipe": asdict(recipe), "metrics": metrics, "data": data.settings})
    write_json(out / "metrics.json", metrics)
    if model.decoder is not None:
        save_rollout_picture(model, data, validation, out / "rollouts.png")
    save_curves(read_log(out), out / "curves.png")
    if "errors_by_step" in metrics:
        save_errors(metrics["errors_by_step"], out / "errors.png")
    return metrics


def _check(data: EpisodeDataset, recipe: Recipe, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> None:
    """Say now what would otherwise fail after hours."""
    config = recipe.model
    planar = config.layout == "planar_push"
    data.check_fits(config.image_size, config.action_dim)
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


def _begin_from(model: LatentWorldModel, name: str | Path) -> None:
    """Take over the weights of a saved model of the same sizes."""
    there = load_world_model(name).state_dict()
    wanted = model.state_dict()
    foreign = sorted(k for k, v in there.items() if k not in wanted or wanted[k].shape != v.shape)
    if foreign:
        raise ValueError(
            f"{name}: expected a model with the recipe's sizes, but {foreign[0]} does not fit"
            f" ({len(foreign)} such); train from the beginning"
        )
    model.load_state_dict(there, strict=False)
