"""The pictures of an `Explanation`: how the planner found its plan, what the model predicted, what really happened.

states.png   decoded states along the plan: virtual states as the planner goes on (of planners without them: the best
             plan's rollout), the rollout of the plan, and the real frames
cost.png     true rollout cost against iterations, cost of every restart, defects and prediction errors along the plan
path.png     the rendered scene with predicted and real paths, if the task knows where things are
plan.json    the report
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from grasp_agent.agent.observations import Array
from grasp_agent.explain.explain import Explanation, Snapshot
from grasp_agent.files.atomic import replacing, write_json
from grasp_agent.tasks import Task, task_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOMENTS = 8
"""Columns of states.png."""
INITIAL = "initial guess"
COST = "true rollout cost [latent units²]"
_LABELS = 2.3  # width of the labels in widths of a picture
_BEST, _PREDICTED, _REAL, _FAINT = "#187a3c", "#e07b00", "#7f9fd6", "#777777"
_SHADES = ("#c3cfe2", "#93a8cb", "#5a78ac", "#1f3b73")  # from the initial guess to the last iteration


def save_explanation(explanation: Explanation, out: str | Path) -> list[Path]:
    """Write states.png, cost.png, path.png and plan.json, each whole or not at all.

    Args:
        explanation: what to draw.
        out: folder, made if need be; files of these names are replaced.

    Returns:
        The files.
    """
    out = Path(out)
    written = []
    for name, draw in (("states.png", _draw_states), ("cost.png", _draw_cost), ("path.png", _draw_path)):
        with replacing(out / name) as temporary:
            draw(explanation).savefig(temporary, dpi=110)
        written.append(out / name)
    report = {**explanation.report, "files": [path.name for path in written]}
    write_json(out / "plan.json", report, allow_nan=False)
    return [*written, out / "plan.json"]


# ----- states -----------------------------------------------------------------------------------------------


def _draw_states(explanation: Explanation) -> Figure:
    """Rows of pictures with a column per moment of the plan; above them the start and the goal."""
    from matplotlib.figure import Figure

    model, frames = explanation.model, explanation.replay.frames
    moments = sorted({round(x) for x in np.linspace(0, len(frames) - 1, MOMENTS)})
    believed = _believed(explanation)
    rows = [(label, measure, _decode(model, states[moments])) for label, measure, states in _planned(explanation)]
    rows.append(("real frames", _outcome(explanation.report["real"], explanation), frames[moments]))

    columns = len(moments)
    figure = Figure(figsize=(1.15 * (columns + _LABELS), 1.18 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots(len(rows) + 1, columns + 1, squeeze=False, width_ratios=[_LABELS, *[1] * columns])
    for axis in axes.flat:
        axis.axis("off")
    settings = explanation.report["settings"]
    _label(axes[0, 0], "episode", f"seed {settings['seed']}")
    _picture(axes[0, 1], frames[0], "start")
    _picture(axes[0, -1], explanation.goal, "goal")
    if columns > 5:  # there is room
        words = (
            f"planner {settings['planner']}: {settings['iterations']} iterations in"
            f" {explanation.report['seconds']:.1f} s\n"
            f"plan: {len(explanation.report['actions'])} environment steps, {settings['horizon']} model steps\n"
            "executed open loop (no replanning)"
        )
        if believed < moments[-1] * model.action_block:
            words += f"\nframed in orange: later than step {believed:.0f}, where the model is no longer to be believed"
        _beside(axes[0, 1], 1.15, 0.5, words, ha="left", va="center", fontsize=9, color=_FAINT)
    for row, (label, measure, pictures) in enumerate(rows, start=1):
        _label(axes[row, 0], label, measure)
        for column, (moment, picture) in enumerate(zip(moments, pictures, strict=True), start=1):
            step = moment * model.action_block
            title = f"step {step}" if row == 1 else None
            _picture(axes[row, column], picture, title, doubtful=row < len(rows) and step > believed)
    return figure


def _planned(explanation: Explanation) -> list[tuple[str, str, Tensor]]:
    """Label, measure and states [T + 1, *S] of every row of states that the planner or the model made up."""
    rows = []
    for shot in explanation.snapshots:
        if shot.defects is not None:
            rows.append((f"virtual states\n{_when(shot)}", f"mean defect {_short(shot.defects.mean())}", shot.states))
        elif shot is not explanation.snapshots[-1]:
            rows.append((f"rollout of the best plan\n{_when(shot)}", f"cost {_short(shot.cost)}", shot.states))
    plan = explanation.plan
    measure = f"cost {_short(float(plan.cost[0]))}{_errors(explanation.report['predicted'] or {}, explanation)}"
    return [*rows, ("rollout of the final plan", measure, plan.states[0])]


def _believed(explanation: Explanation) -> float:
    """Environment steps ahead up to which the model is to be believed; all of them, if that is unknown."""
    steps = explanation.report["trusted_steps"]
    return math.inf if steps is None else float(steps)


def _when(shot: Snapshot) -> str:
    return f"after iteration {shot.iteration}" if shot.iteration else INITIAL


def _outcome(real: dict[str, Any], explanation: Explanation) -> str:
    if real["success"]:
        outcome = "goal reached"
    elif real["success_at_any_step"]:
        outcome = f"goal reached at step {real['first_success_step']}, then left"
    else:
        outcome = "goal not reached"
    return outcome + _errors(real, explanation)


def _errors(told: dict[str, Any], explanation: Explanation) -> str:
    """The distances to the goal that a part of the report tells, on a line of their own; empty if it tells none."""
    values: dict[str, list[str]] = {}
    for name, unit in _measures(_task(explanation)):
        value = told.get(f"{name}_{unit}")
        if value is not None:
            values.setdefault(name, []).append(f"{value:.1f} {unit}")
    return "\n" + ", ".join(f"{name} {', '.join(shown)}" for name, shown in values.items()) if values else ""


def _task(explanation: Explanation) -> Task:
    return task_for(explanation.report["settings"]["environment"])


def _measures(task: Task) -> list[tuple[str, str]]:
    """What the task's readout measures: (name, unit) of each error, as ("body", "px") of "body_px"."""
    if task.states is None:
        return []
    latents = torch.from_numpy(task.states.latents_of_states(np.zeros(task.states.state_numbers)))
    parts = (key.rpartition("_") for key in task.states.errors(latents, latents))
    return [(name, unit) for name, _, unit in parts]


def _decode(model: Any, states: Tensor) -> Array:
    """States [M, *S] -> uint8 [M, side, side, 3]."""
    with torch.no_grad():
        pictures = model.decode(states).float().nan_to_num(0.0).clamp(0, 1)
    decoded: Array = (pictures * 255).round().to(torch.uint8).cpu().numpy()
    return decoded


def _label(axis: Axes, name: str, measure: str) -> None:
    _beside(axis, 0.98, 0.54, name, ha="right", va="bottom", fontsize=10)
    _beside(axis, 0.98, 0.44, measure, ha="right", va="top", fontsize=9, color=_FAINT)


def _beside(axis: Axes, x: float, y: float, words: str, **look: Any) -> None:
    """Words at a place in units of the picture, which the layout makes no room for."""
    axis.text(x, y, words, transform=axis.transAxes, **look).set_in_layout(False)


def _picture(axis: Axes, picture: Array, title: str | None, doubtful: bool = False) -> None:
    axis.axis("on")
    axis.imshow(picture, interpolation="nearest", alpha=0.6 if doubtful else 1.0)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_color(_PREDICTED if doubtful else "#bbbbbb")
    if title:
        axis.set_title(title, fontsize=9, pad=3)


# ----- costs ------------------------------------------------------------------------------------------------


def _draw_cost(explanation: Explanation) -> Figure:
    """Cost against iterations, cost of every restart (if there are several), and errors along the plan."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    several = len(explanation.snapshots[-1].restarts) > 1
    panels = 2 + several
    figure = Figure(figsize=(4.6 * panels + 1.6, 3.9), layout=ConstrainedLayoutEngine(wspace=0.04))
    course, *middle, along = figure.subplots(1, panels)
    _draw_course(course, explanation, several)
    for axis in middle:
        _draw_restarts(axis, explanation)
    _draw_errors(along, explanation)
    for axis in (course, *middle, along):
        values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axis.get_lines()])
        # Rounding errors around zero would stretch a logarithmic scale.
        values = values[values > 1e-6 * np.nanmax(values, initial=0.0)]
        if len(values) and values.max() > 10 * values.min():
            axis.set_yscale("log")
            axis.set_ylim(bottom=values.min() / 1.5)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if axis is along else {}
        axis.legend(fontsize=8, **beside)
    return figure


def _draw_course(axis: Axes, explanation: Explanation, several: bool) -> None:
    trace = _finite(explanation.cost_trace)
    axis.step(range(len(trace)), trace, where="post", color=_BEST, linewidth=2, label="best so far", zorder=3)
    for shot in explanation.snapshots:
        label = None if shot.iteration else "each restart" if several else "current plan"
        at = np.full(len(shot.restarts), shot.iteration)
        axis.plot(at, _finite(shot.restarts), "o", color=_FAINT, alpha=0.6, markersize=4, label=label)
    axis.set(xlabel="planner iteration", ylabel=COST, title="cost of the plan")


def _draw_restarts(axis: Axes, explanation: Explanation) -> None:
    first, last = (_finite(explanation.snapshots[at].restarts) for at in (0, -1))
    names = np.arange(1, len(last) + 1)
    axis.vlines(names, first, last, color=_SHADES[0], zorder=0)
    axis.plot(names, first, "o", color=_SHADES[1], label=INITIAL)
    axis.plot(names, last, "o", color=_SHADES[3], label="after the last iteration")
    best = float(_finite(explanation.cost_trace)[-1])
    axis.axhline(best, color=_BEST, linewidth=1, linestyle="--", label="best plan")
    axis.set(xlabel="restart", ylabel=COST, title="cost of every restart", xlim=(0.4, len(last) + 0.6))


def _draw_errors(axis: Axes, explanation: Explanation) -> None:
    shots, block = explanation.snapshots, explanation.model.action_block
    error = _finite(explanation.prediction_error)[1:]
    at = np.arange(1, len(error) + 1) * block
    for shade, shot in zip(_SHADES[-len(shots) :], shots, strict=True):
        if shot.defects is not None:
            name = f"defect, {_when(shot)}"
            axis.plot(
                at, _finite(shot.defects)[: len(at)], color=shade, marker=".", markersize=3, linewidth=1.2, label=name
            )
    axis.plot(at, error, ".-", color=_PREDICTED, label="rollout against real frames")
    believed = _believed(explanation)
    if believed < at[-1]:
        axis.axvspan(believed, at[-1], color=_PREDICTED, alpha=0.12, label="model not to be believed")
    axis.set(xlabel="environment step", ylabel="mean squared error [latent units²]", title="errors along the plan")


def _finite(values: Array) -> Array:
    """Numbers to plot, with NaN (not drawn) for those that are not finite."""
    array: Array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "infinite"


# ----- paths ------------------------------------------------------------------------------------------------


def _draw_path(explanation: Explanation) -> Figure:
    """The scene before and after the plan, with the paths that things were predicted to take and really took."""
    from matplotlib.figure import Figure

    task, scenes = _task(explanation), explanation.replay.scenes
    paths = _paths(explanation) if task.scene_side is not None else {}
    # Positions are lengths, and of what is measured of a thing its position comes first.
    unit = next((unit for _, unit in _measures(task)), None)
    looks = {"real": (_REAL, "-", 2.0), "predicted": (_PREDICTED, "--", 1.0)}
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    titles = ("before the plan", f"after {len(explanation.replay.infos) - 1} steps")
    axes = figure.subplots(1, 2)
    for axis, scene, title in zip(axes, scenes, titles, strict=True):
        height, width = (task.scene_side or side for side in scene.shape[:2])
        axis.imshow(scene, extent=(0, width, height, 0))
        for kind, things in paths.items():
            colour, line, weight = looks[kind]
            for (name, path), marker in zip(things.items(), itertools.cycle("os^D")):
                end = {"marker": marker, "markevery": [-1], "markersize": 4 + 3 * weight, "markeredgecolor": "black"}
                axis.plot(*path.T, line, color=colour, linewidth=1.6 * weight, label=f"{name}, {kind}", **end)
        axis.set(title=title, xlim=(0, width), ylim=(height, 0))
        if task.scene_side is not None and unit is not None:
            axis.set(xlabel=f"x [{unit}]", ylabel=f"y [{unit}]")
        else:
            axis.axis("off")
    if paths:
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _paths(explanation: Explanation) -> dict[str, dict[str, Array]]:
    """Where things were, [steps, 2] by name, really and as predicted, as far as states and latents tell."""
    task, infos = _task(explanation), explanation.replay.infos
    paths: dict[str, Tensor] = {}
    if task.states is not None and all("state" in info for info in infos):
        states = np.stack([np.asarray(info["state"]) for info in infos])
        paths["real"] = torch.from_numpy(task.states.latents_of_states(states))
    if task.reads(explanation.model):
        paths["predicted"] = explanation.plan.states[0].cpu()
    return {
        kind: {name: path.double().numpy() for name, path in task.states.positions(latents).items()}
        for kind, latents in paths.items()
        if task.states is not None
    }
