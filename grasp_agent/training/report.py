"""How good a world model is: prediction errors in physical units, and decoded rollouts as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from grasp_agent.core.capabilities import Readout
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.files.atomic import replacing
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.models.trust import LATENT_ERRORS
from grasp_agent.training.dynamics import DynamicsTask, unrolled
from grasp_agent.training.recipe import HORIZONS

UNITS = {"deg": "degrees"}
"""Units that are written out; the others read as in the error's name."""

Errors = dict[str, dict[str, float]]
"""Summaries {"median", "mean"} by the names of a `Readout`'s errors."""


@torch.inference_mode()
def prediction_errors(
    model: LatentWorldModel,
    task: DynamicsTask,
    truth: NDArray[np.float32],
    readout: Readout,
    read: Callable[[Tensor], Tensor] = lambda latents: latents,
    windows: int = 2000,
    seed: int = 0,
) -> dict[str, Errors]:
    """Errors of encoder (step 0) and rollout against the simulator, on held-out episodes.

    Args:
        model: whose rollouts are judged.
        task: over the held-out episodes; its `unroll` is the longest horizon reported.
        truth: the simulator's states of all frames as latents of a layout, [F, P].
        readout: tells errors between latents of that layout.
        read: the model's latents [N, D] -> that layout's [N, P]; a probe, where the model has another one.
        windows: how many rollouts.
        seed: which.

    Returns:
        By environment steps ahead, {step: {error: {"median", "mean"}}}.
    """
    generator = np.random.default_rng(seed)
    present = torch.from_numpy(generator.choice(task.presents, min(windows, len(task.presents)), replace=False))
    latents, actions = task.window(present, task.unroll)
    device = model.device
    predicted = unrolled(model, latents.to(device), actions.to(device), task.unroll).cpu()
    true = torch.from_numpy(truth)
    k = model.action_block
    table = {"0": _summary(readout.errors(read(latents[:, model.history - 1]), true[present]))}
    for steps in HORIZONS:
        if steps % k == 0 and steps // k <= task.unroll:
            errors = readout.errors(read(predicted[:, steps // k - 1]), true[present + steps])
            table[str(steps)] = _summary(errors)
    return table


def probe_errors(
    probes: Mapping[str, Callable[[Tensor], Tensor]],
    latents: NDArray[np.float32],
    truth: NDArray[np.float32],
    readout: Readout,
    frames: NDArray[np.int64],
    most: int = 5000,
    seed: int = 0,
) -> dict[str, Errors]:
    """Errors of probes on frames they were not fitted on.

    Args:
        probes: by name, latents [N, D] -> latents of another layout [N, P].
        latents: of all frames, [F, D].
        truth: the simulator's states of all frames as latents of that layout, [F, P].
        readout: tells errors between latents of that layout.
        frames: numbers of the frames to judge; of many, `most` are drawn.
        most: see `frames`.
        seed: of the drawing.

    Returns:
        {probe: {error: {"median", "mean"}}}.
    """
    chosen = np.random.default_rng(seed).choice(frames, min(most, len(frames)), replace=False)
    true, known = torch.from_numpy(truth[chosen]), torch.from_numpy(latents[chosen])
    return {name: _summary(readout.errors(probe(known), true)) for name, probe in probes.items()}


def _summary(errors: dict[str, Tensor]) -> Errors:
    return {
        name: {"median": round(float(e.median()), 3), "mean": round(float(e.mean()), 3)} for name, e in errors.items()
    }


@torch.inference_mode()
def latent_errors(model: LatentWorldModel, task: DynamicsTask, windows: int = 2000, seed: int = 0) -> dict[str, float]:
    """Root mean squared latent error by step, relative to the latents' spread; empty if a single window tells none."""
    generator = np.random.default_rng(seed)
    present = torch.from_numpy(generator.choice(task.presents, min(windows, len(task.presents)), replace=False))
    latents, actions = task.window(present, task.unroll)
    predicted = unrolled(model, latents.to(model.device), actions.to(model.device), task.unroll).cpu()
    wanted = latents[:, model.history :]
    if len(wanted) < 2:
        return {}
    spread = float(wanted.std(0).flatten(1).square().sum(-1).mean().sqrt())
    error = (predicted - wanted).flatten(2).square().sum(-1).mean(0).sqrt() / max(spread, 1e-9)
    return {str((t + 1) * model.action_block): round(float(e), 4) for t, e in enumerate(error)}


@torch.inference_mode()
def save_rollout_picture(
    model: LatentWorldModel,
    data: EpisodeDataset,
    task: DynamicsTask,
    path: Path,
    rows: int = 4,
    seed: int = 0,
) -> None:
    """Draw real frames above what the model decodes from its own rollout, for a few held-out windows."""
    from PIL import Image, ImageDraw

    generator = np.random.default_rng(seed)
    rows = min(rows, len(task.presents))
    present = torch.from_numpy(generator.choice(task.presents, rows, replace=False))
    latents, actions = task.window(present, task.unroll)
    rollout = unrolled(model, latents.to(model.device), actions.to(model.device), task.unroll)
    path_states = torch.cat([latents[:, model.history - 1 : model.history].to(model.device), rollout], 1)
    columns = sorted({round(float(x)) for x in np.linspace(0, task.unroll, 6)})
    size, label = model.image_size, 14
    sheet = Image.new("RGB", (len(columns) * (size + 4), label + rows * (2 * size + 8)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, t in enumerate(columns):
        step = t * model.action_block
        draw.text((c * (size + 4) + 2, 1), f"step {step}", fill="black")
        real = data.frames((present + step).numpy())
        decoded = (model.decode(path_states[:, t]).float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        for r in range(rows):
            top = label + r * (2 * size + 8)
            sheet.paste(Image.fromarray(real[r]), (c * (size + 4), top))
            sheet.paste(Image.fromarray(decoded[r]), (c * (size + 4), top + size))
    sheet = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def metrics_table(metrics: dict[str, Any]) -> Table:
    """Prediction errors on held-out episodes by how far ahead, as `train` returns them."""
    table = Table(title=f"prediction errors on {metrics['held_out_episodes']} held-out episodes")
    physical: dict[str, Errors] = metrics.get("errors_by_step", {})
    latents = metrics.get(LATENT_ERRORS, {})
    table.add_column("environment steps ahead", justify="right")
    if physical:
        read = ", read by the network probe" if latents else ""
        table.title = f"{table.title}: median (mean){read}"
        for name in next(iter(physical.values())):
            table.add_column(" ".join(_thing_and_unit(name)), justify="right")
    if latents:
        table.add_column("latent error / spread", justify="right")
    for step in physical or latents:
        row = [f"{e['median']:.1f} ({e['mean']:.1f})" for e in physical.get(step, {}).values()]
        if latents:
            row.append(f"{latents[step]:.3f}" if step in latents else "")
        table.add_row(step, *row)
    return table


def probes_sentence(metrics: dict[str, Any]) -> str | None:
    """What the latent knows of the simulator's state, as `train` found it; None if that was not measured."""
    if "probes" not in metrics:
        return None
    found = []
    for name, errors in metrics["probes"].items():
        parts = [(*_thing_and_unit(error), summary["median"]) for error, summary in errors.items()]
        found.append(f"{name} probe {', '.join(f'{thing} {median:.1f} {unit}' for thing, unit, median in parts)}")
    return f"median errors of what a latent tells: {'; '.join(found)}"


def _thing_and_unit(name: str) -> tuple[str, str]:
    """The two parts of an error's name: "body_deg" -> "body", "degrees"."""
    thing, _, unit = name.rpartition("_")
    return thing, UNITS.get(unit, unit)


def save_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot every loss term of the log against its stage's steps."""
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(6 * len(stages), 4), layout="constrained")
    axes = figure.subplots(1, len(stages), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=True):
        of_stage = [row for row in rows if row["stage"] == stage]
        for term in sorted(of_stage[0].keys() - {"stage", "step"}):
            axis.plot([row["step"] for row in of_stage], [row.get(term) for row in of_stage], ".-", label=term)
        axis.set(title=stage, xlabel="step", yscale="log")
        axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def save_errors(errors: dict[str, Errors], path: Path) -> None:
    """Plot what `prediction_errors` returned: median and mean error against environment steps ahead."""
    from matplotlib.figure import Figure

    steps = [int(step) for step in errors]
    names = list(next(iter(errors.values())))
    figure = Figure(figsize=(3 * len(names), 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for statistic in ("median", "mean"):
            axis.plot(steps, [row[name][statistic] for row in errors.values()], "o-", markersize=3, label=statistic)
        thing, unit = _thing_and_unit(name)
        axis.set(xlabel="environment steps ahead", ylabel=f"{thing} error [{unit}]", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
