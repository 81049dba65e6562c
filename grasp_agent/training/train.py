"""The whole training, of any recipe.

OUT/model/            config.json, model.safetensors: for `load_world_model`
OUT/metrics.json      errors on held-out episodes
OUT/curves.png, log.jsonl
OUT/tensorboard/      the log once more, for TensorBoard, if asked for
OUT/*.pt              state of training, to resume from; may be deleted when done

A recipe adds pictures of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.files.atomic import remove_unfinished, write_json
from grasp_agent.files.digest import model_digest
from grasp_agent.files.lock import locked
from grasp_agent.models.io import load_world_model, save_pretrained
from grasp_agent.models.registry import SavedModel, kind_of
from grasp_agent.training.folder import claim
from grasp_agent.training.loop import OnLog, read_log, run_stage
from grasp_agent.training.recipe import Recipe, Run
from grasp_agent.training.report import save_curves
from grasp_agent.training.tensorboard import TensorBoardLog


def train(
    data: EpisodeDataset,
    recipe: Recipe,
    out: str | Path,
    device: str | torch.device = "cpu",
    initial: str | Path | None = None,
    on_log: OnLog | None = None,
    on_message: Callable[[str], None] | None = None,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train a world model on collected episodes, going on from what `out` already holds.

    Args:
        data: episodes; frames of the size the recipe's model reads. The metrics are of the first folder's held-out
            episodes.
        recipe: what to train and how long.
        out: output folder.
        device: where to compute; bfloat16 is used on CUDA.
        initial: a model to begin from, as `load_world_model` takes it; what it lacks begins at random, and stages of 0
            steps keep what it has.
        on_log: progress of a stage.
        on_message: one line of text when a stage begins.
        tensorboard: whether to write the log for TensorBoard, too.

    Returns:
        The metrics, also written to metrics.json.

    Raises:
        ValueError: the data do not fit the recipe, or `out` was begun with another recipe, other data, another initial
            model, on another device or with another number of threads: the weights would differ by rounding.
        ImportError: the recipe, or TensorBoard, needs a package that is not installed.
        RuntimeError: another run writes to `out`.
    """
    out = Path(out)
    board = TensorBoardLog(out) if tensorboard else None
    kept = [stage.schedule.name for stage in recipe.stages() if stage.schedule.steps == 0]
    if len(kept) == len(recipe.stages()):
        raise ValueError("steps: expected some for at least one stage, got 0 for all, which would train nothing")
    if initial is None and kept:
        raise ValueError(
            f"{kept[0]}.steps: expected at least 1, got 0, which would leave random weights; try a model to begin from"
            " (--initial), whose weights 0 steps keep"
        )
    training, held_out = data.split(recipe.held_out)
    held_out = held_out[data.source[held_out] == 0]  # figures stay comparable when other data join the first
    with torch.random.fork_rng():  # initial weights by seed, the caller's generator untouched
        torch.manual_seed(recipe.seed)
        model = recipe.build(data, training, held_out)
    begun_with = None
    if initial is not None:
        saved = load_world_model(initial)
        model, begun_with = _begun_from(initial, saved, model), model_digest(saved)
    model.to(device)
    # Only now that nothing can be wrong with the arguments any more is the folder taken.
    began_from = None if initial is None else str(initial)
    with locked(out):
        settings = {"recipe": asdict(recipe), "data": data.settings, "frames": len(data), "initial": began_from}
        claim(out, {**settings, "episodes": data.digest(), "weights": begun_with, **_arithmetic(device)})
        remove_unfinished(out)
        run = Run(model, data, training, held_out, out, on_message or (lambda text: None))
        if board is None:
            return _run(run, recipe, device, on_log)
        try:
            metrics = _run(run, recipe, device, _also_drawn(on_log, board))
            board.update()  # also where all stages were done before
        finally:
            board.close()
        return metrics


def _also_drawn(on_log: OnLog | None, board: TensorBoardLog) -> OnLog:
    """What is called for a line of the log, with TensorBoard told of it as well."""

    def told(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
        board.update()
        if on_log:
            on_log(stage, step, steps, terms)

    return told


def _run(run: Run, recipe: Recipe, device: str | torch.device, on_log: OnLog | None) -> dict[str, Any]:
    """Train the stages, each from where it was, and write the model and what is told of it."""
    half = torch.device(device).type == "cuda"
    stages = recipe.stages()
    run.model.eval()  # what is kept must not learn the statistics of batches while data are encoded with it
    for i, stage in enumerate(stages):
        schedule, which = stage.schedule, f"stage {i + 1} of {len(stages)}, {stage.trains}"
        if schedule.steps == 0:
            run.say(f"{which}: kept")
            continue
        task = stage.task(run)
        run.say(f"{which}: {schedule.steps} steps of {schedule.batch} {stage.samples}")
        run_stage(schedule, task, run.folder, recipe.seed + i, on_log, half)

    metrics: dict[str, Any] = {
        "frames": len(run.data),
        "episodes": len(run.data.lengths),
        "held_out_episodes": len(run.held_out),
        **recipe.report(run),
    }
    about = {"recipe": asdict(recipe), "metrics": metrics, "data": run.data.settings}
    save_pretrained(run.model, run.folder / "model", about)
    write_json(run.folder / "metrics.json", metrics)
    save_curves(read_log(run.folder), run.folder / "curves.png")
    return metrics


def _arithmetic(device: str | torch.device) -> dict[str, Any]:
    """What sums are rounded by: where they are taken, and on a CPU in how many parts."""
    kind = torch.device(device).type
    return {"device": kind, "threads": torch.get_num_threads() if kind == "cpu" else None}


OF_THE_DATA = ("action_limit", "distance_weights")
"""What new data, or the recipe, may change in a model that training begins from."""


def _begun_from(name: str | Path, there: SavedModel, model: SavedModel) -> SavedModel:
    """The recipe's model with the weights of a saved one of the same sizes, and with the units that they are made for.

    Sizes are whole numbers in the config. Other settings, such as the action that counts as 1, belong to the weights.
    """
    weights, wanted = there.state_dict(), model.state_dict()
    foreign = sorted(k for k, v in weights.items() if k not in wanted or wanted[k].shape != v.shape)
    if foreign or type(there) is not type(model):
        what = f"{foreign[0]} does not fit ({len(foreign)} such)" if foreign else f"it is a {type(there).__name__}"
        raise ValueError(f"{name}: expected a model with the recipe's sizes, but {what}; train from the beginning")
    if kind_of(model).part is None:
        units = {
            field.name: getattr(there.config, field.name)
            for field in fields(model.config)
            if field.name not in OF_THE_DATA and not isinstance(getattr(model.config, field.name), int | str)
        }
        begun: SavedModel = type(model)(replace(model.config, **units))  # type: ignore[call-arg]
        begun.load_state_dict(wanted)
        model = begun
    model.load_state_dict(weights, strict=False)
    return model
