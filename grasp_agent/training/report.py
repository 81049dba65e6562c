"""How good a world model is: prediction errors in pixels and degrees, and decoded rollouts as pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.models.planar_push import latents_of_states, pose_errors
from grasp_agent.training.dynamics import DynamicsTask, unrolled

HORIZONS = (1, 5, 10, 25, 50)
"""How many environment steps ahead errors are reported, if the episodes are long enough."""


@torch.inference_mode()
def prediction_errors(
    model: LatentWorldModel,
    task: DynamicsTask,
    states: NDArray[np.float64],
    read: Callable[[Tensor], Tensor] = lambda latents: latents,
    windows: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of encoder (step 0) and rollout against the simulator, on held-out episodes.

    Args:
        model: whose rollouts are judged.
        task: over the held-out episodes; its `unroll` is the longest horizon reported.
        states: simulator states of all frames.
        read: latents [N, D] -> poses [N, 6] as latents of layout "planar_push", which is its own read-out; for
            others a probe.
        windows: how many rollouts.
        seed: which.

    Returns:
        {step: {"pusher_px" | "body_px" | "body_deg": {"median", "mean"}}}; steps in environment steps.
    """
    generator = np.random.default_rng(seed)
    present = torch.from_numpy(generator.choice(task.presents, min(windows, len(task.presents)), replace=False))
    latents, actions = task.window(present, task.unroll)
    device = model.device
    predicted = unrolled(model, latents.to(device), actions.to(device), task.unroll).cpu()
    truth = torch.from_numpy(latents_of_states(states))
    k = model.action_block
    table = {"0": _summary(pose_errors(read(latents[:, model.history - 1]), truth[present]))}
    for steps in HORIZONS:
        if steps % k == 0 and steps // k <= task.unroll:
            errors = pose_errors(read(predicted[:, steps // k - 1]), truth[present + steps])
            table[str(steps)] = _summary(errors)
    return table


def probe_errors(
    probes: Mapping[str, Callable[[Tensor], Tensor]],
    latents: NDArray[np.float32],
    states: NDArray[np.float64],
    frames: NDArray[np.int64],
    most: int = 5000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of probes on frames they were not fitted on.

    Args:
        probes: by name, latents [N, D] -> poses [N, 6] as latents of layout "planar_push".
        latents: of all frames, [F, D].
        states: simulator states of all frames.
        frames: numbers of the frames to judge; of many, `most` are drawn.
        most: see `frames`.
        seed: of the drawing.

    Returns:
        {probe: {"pusher_px" | "body_px" | "body_deg": {"median", "mean"}}}.
    """
    chosen = np.random.default_rng(seed).choice(frames, min(most, len(frames)), replace=False)
    truth = torch.from_numpy(latents_of_states(states[chosen]))
    known = torch.from_numpy(latents[chosen])
    return {name: _summary(pose_errors(probe(known), truth)) for name, probe in probes.items()}


def _summary(errors: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    return {
        name: {"median": round(float(e.median()), 3), "mean": round(float(e.mean()), 3)} for name, e in errors.items()
    }


@torch.inference_mode()
def latent_errors(model: LatentWorldModel, task: DynamicsTask, windows: int = 2000, seed: int = 0) -> dict[str, float]:
    """Root mean squared latent error by step, relative to the latents' spread, for models without a known layout."""
    generator = np.random.default_rng(seed)
    present = torch.from_numpy(generator.choice(task.presents, min(windows, len(task.presents)), replace=False))
    latents, actions = task.window(present, task.unroll)
    predicted = unrolled(model, latents.to(model.device), actions.to(model.device), task.unroll).cpu()
    wanted = latents[:, model.history :]
    spread = float(wanted.std(0).square().sum(-1).mean().sqrt())
    error = (predicted - wanted).square().sum(-1).mean(0).sqrt() / max(spread, 1e-9)
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
    temporary = path.with_name(f".{path.name}")
    sheet.save(temporary, format="PNG")
    os.replace(temporary, path)


def metrics_table(metrics: dict[str, Any]) -> Table:
    """Prediction errors on held-out episodes by how far ahead, as `train` returns them."""
    table = Table(title=f"prediction errors on {metrics['held_out_episodes']} held-out episodes")
    poses = metrics.get("errors_by_step", {})
    latents = metrics.get("relative_latent_error_by_step", {})
    table.add_column("environment steps ahead", justify="right")
    if poses:
        read = ", read by the MLP probe" if latents else ""
        table.title = f"{table.title}: median (mean){read}"
        for name in ("pusher px", "body px", "body degrees"):
            table.add_column(name, justify="right")
    if latents:
        table.add_column("latent error / spread", justify="right")
    for step in poses or latents:
        row = [f"{e['median']:.1f} ({e['mean']:.1f})" for e in poses.get(step, {}).values()]
        if latents:
            row.append(f"{latents[step]:.3f}" if step in latents else "")
        table.add_row(step, *row)
    return table


def probes_sentence(metrics: dict[str, Any]) -> str | None:
    """What the latent knows of the pose, as `train` found it; None for data without simulator states."""
    if "probes" not in metrics:
        return None
    found = [
        f"{name} probe {e['pusher_px']['median']:.1f} px, {e['body_px']['median']:.1f} px, "
        f"{e['body_deg']['median']:.1f} degrees"
        for name, e in metrics["probes"].items()
    ]
    return f"median errors reading pusher, body and its angle from a latent: {'; '.join(found)}"


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
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", dpi=100)
    os.replace(temporary, path)


def save_errors(errors: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Plot what `prediction_errors` returned: median and mean error against environment steps ahead."""
    from matplotlib.figure import Figure

    steps = [int(step) for step in errors]
    figure = Figure(figsize=(9, 3), layout="constrained")
    names = {"pusher_px": "pusher error [px]", "body_px": "body error [px]", "body_deg": "body error [degrees]"}
    for axis, (name, label) in zip(figure.subplots(1, 3), names.items(), strict=True):
        for statistic in ("median", "mean"):
            axis.plot(steps, [row[name][statistic] for row in errors.values()], "o-", markersize=3, label=statistic)
        axis.set(xlabel="environment steps ahead", ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", dpi=100)
    os.replace(temporary, path)
