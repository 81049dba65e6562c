"""The pictures of an `Explanation`: what a planner thought, how its plan got better, where it led.

states.png   decoded states, moments of the plan from left to right: virtual states as the planner goes on (of
             planners without: the best plan's rollout), the rollout of the plan, and the real frames
cost.png     true rollout cost against iterations, the cost of every restart, defects and prediction errors
path.png     the scene with the ways of pusher and body, predicted and real
plan.json    the report
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from grasp_agent.agent.spaces import Array
from grasp_agent.explain.explain import Explanation, is_planar_push
from grasp_agent.files.atomic import write_text
from grasp_agent.models.planar_push import CENTRE, UNIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOMENTS = 8
"""Moments of the plan that are drawn."""
ARENA = 512
"""Side of the scene in the simulator's pixels."""
_LABELS = 2.3  # width of the labels in widths of a picture
_BEST, _PREDICTED, _REAL, _FAINT = "#187a3c", "#e07b00", "#7f9fd6", "#777777"
_SHADES = ("#c3cfe2", "#93a8cb", "#5a78ac", "#1f3b73")  # from the planner's beginning to its end


def save_explanation(explanation: Explanation, out: str | Path) -> list[Path]:
    """Write states.png, cost.png, path.png and plan.json, each under a temporary name first.

    Args:
        explanation: what to draw.
        out: folder, made if need be; files of these names are replaced.

    Returns:
        The files.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (("states.png", _draw_states), ("cost.png", _draw_cost), ("path.png", _draw_path)):
        temporary = out / f".partial-{name}"
        draw(explanation).savefig(temporary, dpi=110)
        os.replace(temporary, out / name)
        written.append(out / name)
    report = {**explanation.report, "files": [path.name for path in written]}
    write_text(out / "plan.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    return [*written, out / "plan.json"]


# ----- states -----------------------------------------------------------------------------------------------


def _draw_states(explanation: Explanation) -> Figure:
    """Rows of pictures with a column for each moment; above them what is given and what is wanted."""
    from matplotlib.figure import Figure

    model, frames = explanation.model, explanation.replay.frames
    moments = sorted({round(x) for x in np.linspace(0, len(frames) - 1, MOMENTS)})
    rows = [(label, measure, _decode(model, states[moments])) for label, measure, states in _thoughts(explanation)]
    rows.append(("what really happened", _outcome(explanation.report["real"]), frames[moments]))

    columns = len(moments)
    figure = Figure(figsize=(1.15 * (columns + _LABELS), 1.18 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots(len(rows) + 1, columns + 1, squeeze=False, width_ratios=[_LABELS, *[1] * columns])
    for axis in axes.flat:
        axis.axis("off")
    settings = explanation.report["settings"]
    _label(axes[0, 0], "the task", f"seed {settings['seed']}")
    _picture(axes[0, 1], frames[0], "start")
    _picture(axes[0, -1], explanation.goal, "goal")
    if columns > 5:  # there is room
        steps = len(explanation.report["actions"])
        words = (
            f"{settings['planner']}: {settings['iterations']} iterations in {explanation.report['seconds']:.1f} s,\n"
            f"one plan of {steps} steps ({settings['horizon']} of the model),\nexecuted without looking again"
        )
        _beside(axes[0, 1], 1.15, 0.5, words, ha="left", va="center", fontsize=9, color=_FAINT)
    for row, (label, measure, pictures) in enumerate(rows, start=1):
        _label(axes[row, 0], label, measure)
        for column, (moment, picture) in enumerate(zip(moments, pictures, strict=True), start=1):
            title = f"step {moment * model.action_block}" if row == 1 else None
            _picture(axes[row, column], picture, title)
    return figure


def _thoughts(explanation: Explanation) -> list[tuple[str, str, Tensor]]:
    """What the planner thought: label, measure and states [T + 1, *S] of every row."""
    rows = []
    for shot in explanation.snapshots:
        when = "at the beginning" if shot.iteration == 0 else f"after iteration {shot.iteration}"
        if shot.defects is not None:
            rows.append((f"virtual states\n{when}", f"mean defect {_short(shot.defects.mean())}", shot.states))
        elif shot is not explanation.snapshots[-1]:
            rows.append((f"best rollout\n{when}", f"cost {_short(shot.cost)}", shot.states))
    plan = explanation.plan
    return [*rows, ("rollout of the plan", f"cost {_short(float(plan.cost[0]))}", plan.states[0])]


def _outcome(real: dict[str, Any]) -> str:
    if real["success"]:
        return "goal reached"
    if real["success_at_any_step"]:
        return f"at the goal in step {real['first_success_step']},\nnot at the end"
    return "goal not reached"


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


def _picture(axis: Axes, picture: Array, title: str | None) -> None:
    axis.axis("on")
    axis.imshow(picture, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_color("#bbbbbb")
    if title:
        axis.set_title(title, fontsize=9, pad=3)


# ----- costs ------------------------------------------------------------------------------------------------


def _draw_cost(explanation: Explanation) -> Figure:
    """Cost against iterations, what every restart came to (if there are several), and how far to trust each step."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    several = len(explanation.snapshots[-1].restarts) > 1
    panels = 2 + several
    figure = Figure(figsize=(4.4 * panels + 1.6, 3.9), layout="constrained")
    course, *middle, steps = figure.subplots(1, panels)
    _draw_course(course, explanation, several)
    for axis in middle:
        _draw_restarts(axis, explanation)
    _draw_trust(steps, explanation)
    for axis in (course, *middle, steps):
        values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axis.get_lines()])
        values = values[values > 1e-6 * np.nanmax(values, initial=0.0)]  # what is as good as zero has no logarithm
        if len(values) and values.max() > 10 * values.min():
            axis.set_yscale("log")
            axis.set_ylim(bottom=values.min() / 1.5)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if axis is steps else {}
        axis.legend(fontsize=8, **beside)
    return figure


def _draw_course(axis: Axes, explanation: Explanation, several: bool) -> None:
    trace = _finite(explanation.cost_trace)
    axis.step(range(len(trace)), trace, where="post", color=_BEST, linewidth=2, label="best so far", zorder=3)
    for shot in explanation.snapshots:
        label = None if shot.iteration else "each restart" if several else "the planner's own plan"
        at = np.full(len(shot.restarts), shot.iteration)
        axis.plot(at, _finite(shot.restarts), "o", color=_FAINT, alpha=0.6, markersize=4, label=label)
    axis.set(xlabel="iterations of the planner", ylabel="true rollout cost", title="how the plan got better")


def _draw_restarts(axis: Axes, explanation: Explanation) -> None:
    first, last = (_finite(explanation.snapshots[at].restarts) for at in (0, -1))
    names = np.arange(1, len(last) + 1)
    axis.vlines(names, first, last, color=_SHADES[0], zorder=0)
    axis.plot(names, first, "o", color=_SHADES[1], label="at the beginning")
    axis.plot(names, last, "o", color=_SHADES[3], label="at the end")
    best = float(_finite(explanation.cost_trace)[-1])
    axis.axhline(best, color=_BEST, linewidth=1, linestyle="--", label="best plan")
    axis.set(xlabel="restart", title="what every restart came to", xlim=(0.4, len(last) + 0.6))


def _draw_trust(axis: Axes, explanation: Explanation) -> None:
    shots, block = explanation.snapshots, explanation.model.action_block
    error = _finite(explanation.prediction_error)[1:]
    at = np.arange(1, len(error) + 1) * block
    for shade, shot in zip(_SHADES[-len(shots) :], shots, strict=True):
        if shot.defects is not None:
            name = f"defect after iteration {shot.iteration}" if shot.iteration else "defect at the beginning"
            axis.plot(at, _finite(shot.defects), color=shade, marker=".", markersize=3, linewidth=1.2, label=name)
    axis.plot(at, error, ".-", color=_PREDICTED, label="rollout against reality")
    axis.set(
        xlabel="environment step of the plan", ylabel="mean squared gap in the latent", title="how far to trust it"
    )


def _finite(values: Array) -> Array:
    """Numbers to plot; those that are not finite are left out."""
    array: Array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "infinite"


# ----- paths ------------------------------------------------------------------------------------------------


def _draw_path(explanation: Explanation) -> Figure:
    """The scene at the start and at the end, with the ways that pusher and body went and were to go."""
    from matplotlib.figure import Figure

    replay = explanation.replay
    ways = {"real": np.stack([np.asarray(info["state"])[:4] for info in replay.infos])}
    if is_planar_push(explanation.model):
        ways["predicted"] = explanation.plan.states[0, :, :4].double().cpu().numpy() * UNIT + CENTRE
    looks = {"real": (_REAL, "-", 2.0), "predicted": (_PREDICTED, "--", 1.0)}
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    titles = ("where the plan begins", "where it really ended")
    for axis, scene, title in zip(figure.subplots(1, 2), replay.scenes, titles, strict=True):
        axis.imshow(scene, extent=(0, ARENA, ARENA, 0))
        for kind, way in ways.items():
            colour, line, weight = looks[kind]
            for part, marker, columns in (("pusher", "o", slice(0, 2)), ("body", "s", slice(2, 4))):
                end = {"marker": marker, "markevery": [-1], "markersize": 4 + 3 * weight, "markeredgecolor": "black"}
                label = f"{part}, {kind}"
                axis.plot(*way[:, columns].T, line, color=colour, linewidth=1.6 * weight, label=label, **end)
        axis.set(title=title, xlim=(0, ARENA), ylim=(ARENA, 0), xticks=[], yticks=[])
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
