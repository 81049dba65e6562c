"""The planning benchmark for people: results.json, table.md in the paper's layout, and plots, from a results folder."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grasp_agent.evaluation.benchmark import CALIBRATION_NAME, TUNING_NAME
from grasp_agent.evaluation.benchmark_rows import SETTINGS_NAME, ClosedRow, OpenRow, Row
from grasp_agent.evaluation.results import versions, write_text
from grasp_agent.evaluation.stats import Interval, mcnemar_exact, wilson_interval

PLANNED = {"open": "One open-loop plan", "ablation": "GRASP with one thing changed"}
"""Stages that report single plans, and what their tables are called."""


@dataclass(frozen=True)
class OpenSummary:
    """A contestant's plans for one horizon; intervals are Wilson's, 95 %.

    Attributes:
        planner: the contestant's name.
        horizon: H, environment steps to the goals.
        goals: how many.
        iterations: planner iterations per plan.
        model_success: share of plans whose predicted end meets the goal.
        seconds_to_success: median over these of the seconds until a plan first did; None if there are none.
        real_success: share that was solved in the environment at the end of the plan.
        real_success_any: share that was solved there at any step.
        mean_cost: mean true rollout cost of the plans where it is finite; None if it never is.
        model_calls: calls of the model per plan, median.
        model_rows: single predictions per plan, median.
        p_model: McNemar's exact test of the success under the model against the first contestant's, same goals.
        p_real: the same for the success at the end in the environment.
    """

    planner: str
    horizon: int
    goals: int
    iterations: int
    model_success: Interval
    seconds_to_success: float | None
    real_success: Interval
    real_success_any: Interval
    mean_cost: float | None
    model_calls: float
    model_rows: float
    p_model: float | None
    p_real: float | None


@dataclass(frozen=True)
class ClosedSummary:
    """A contestant's episodes for one time limit and horizon.

    Attributes:
        planner: the contestant's name.
        milliseconds: time limit of a decision.
        horizon: H.
        goals: how many.
        iterations: planner iterations per decision.
        success: share solved at any step, with Wilson's 95 % interval.
        steps_to_success: median over these; None if there are none.
        p_value: McNemar's exact test against the first contestant on the same goals.
    """

    planner: str
    milliseconds: float
    horizon: int
    goals: int
    iterations: int
    success: Interval
    steps_to_success: float | None
    p_value: float | None


def summarise_open(rows: Sequence[OpenRow], order: Sequence[str]) -> list[OpenSummary]:
    """One summary per horizon and contestant, in the order of horizons, then `order`."""
    summaries = []
    for horizon, name, mine, first in _groups(rows, order):
        times = [r.seconds_to_success for r in mine if r.model_success and r.seconds_to_success is not None]
        costs = [row.cost for row in mine if np.isfinite(row.cost)]
        summary = OpenSummary(
            planner=name,
            horizon=horizon,
            goals=len(mine),
            iterations=mine[0].iterations,
            model_success=_share(mine, lambda row: row.model_success),
            seconds_to_success=float(np.median(times)) if times else None,
            real_success=_share(mine, lambda row: row.real_success),
            real_success_any=_share(mine, lambda row: row.real_success_any),
            mean_cost=float(np.mean(costs)) if costs else None,
            model_calls=float(np.median([row.model_calls for row in mine])),
            model_rows=float(np.median([row.model_rows for row in mine])),
            p_model=_paired(first, mine, lambda row: row.model_success),
            p_real=_paired(first, mine, lambda row: row.real_success),
        )
        summaries.append(summary)
    return summaries


def summarise_closed(rows: Sequence[ClosedRow], order: Sequence[str]) -> list[ClosedSummary]:
    """One summary per time limit, horizon and contestant."""
    summaries = []
    for limit in sorted({row.milliseconds for row in rows}):
        for horizon, name, mine, first in _groups([row for row in rows if row.milliseconds == limit], order):
            steps = [row.steps for row in mine if row.success]
            summary = ClosedSummary(
                planner=name,
                milliseconds=limit,
                horizon=horizon,
                goals=len(mine),
                iterations=mine[0].iterations,
                success=_share(mine, lambda row: row.success),
                steps_to_success=float(np.median(steps)) if steps else None,
                p_value=_paired(first, mine, lambda row: row.success),
            )
            summaries.append(summary)
    return summaries


def _groups(rows: Sequence[Row], order: Sequence[str]) -> list[tuple[int, str, list[Row], list[Row]]]:
    """(horizon, contestant, its rows, the first contestant's rows) for all that have rows."""
    groups = []
    for horizon in sorted({row.horizon for row in rows}):
        by_name = {n: [r for r in rows if (r.horizon, r.planner) == (horizon, n)] for n in order}
        groups += [(horizon, name, mine, by_name[order[0]]) for name, mine in by_name.items() if mine]
    return groups


def _share(rows: Sequence[Row], outcome: Callable[[Row], int]) -> Interval:
    return wilson_interval(sum(outcome(row) for row in rows), len(rows))


def _paired(first: Sequence[Row], mine: Sequence[Row], outcome: Callable[[Row], int]) -> float | None:
    """McNemar's p-value over the goals that both had; None for the first itself, or without common goals."""
    theirs = {row.goal: outcome(row) for row in first}
    common = [row for row in mine if row.goal in theirs]
    if not common or first[0].planner == mine[0].planner:
        return None
    return mcnemar_exact([theirs[row.goal] for row in common], [outcome(row) for row in common])


# ----- files ------------------------------------------------------------------------------------------------


def write_report(out: Path) -> list[Path]:
    """Write results.json, table.md and the plots of all stages whose rows are in a folder; return their paths."""
    settings: dict[str, Any] = json.loads((out / SETTINGS_NAME).read_text())
    files, parts, results = [], ["# Planning benchmark\n", f"{machine()}\n"], {}
    for stage, about in settings.items():
        order, path = list(about["contestants"]), out / f"{stage}.csv"
        if not path.exists():
            continue
        if stage == "closed":
            closed = summarise_closed(_read(path, ClosedRow), order)
            results[stage] = [asdict(summary) for summary in closed]
            parts += _closed_tables(closed, order)
            files.append(_plot_closed(closed, order, out / "closed_success.png"))
            continue
        opened = _read(path, OpenRow)
        summaries = summarise_open(opened, order)
        results[stage] = [asdict(summary) for summary in summaries]
        if stage != "tune":
            parts += _open_tables(stage, about, summaries, order)
            files += plot_open(opened, summaries, order, out, stage)
    if (out / TUNING_NAME).exists():
        parts += _tuning_table(json.loads((out / TUNING_NAME).read_text()))
    content = {
        "settings": settings,
        "versions": versions(),
        "machine": machine(),
        "calibration": _calibration(out / CALIBRATION_NAME),
        "summary": results,
    }
    write_text(out / "results.json", json.dumps(content, indent=2) + "\n")
    write_text(out / "table.md", "\n".join(parts))
    return [out / "results.json", out / "table.md", *files]


def _read(path: Path, kind: type[Row]) -> list[Row]:
    with open(path, newline="") as file:
        return [kind.from_row(row) for row in csv.DictReader(file)]


def _calibration(path: Path) -> list[dict[str, Any]]:
    """What was timed, and the seconds, without those of every single iteration."""
    noted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return [
        {**json.loads(key), "fixed": timing["fixed"], "per_iteration": timing["per_iteration"]}
        for key, timing in noted.items()
    ]


def machine() -> str:
    """The processor, its number of cores, and the system."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [line.split(":")[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


# ----- tables -----------------------------------------------------------------------------------------------


def _open_tables(
    stage: str, about: dict[str, Any], summaries: Sequence[OpenSummary], order: Sequence[str]
) -> list[str]:
    goals = max(summary.goals for summary in summaries)
    lines = [f"## {PLANNED[stage]}, {about['seconds']:g} s, {goals} goals\n"]
    lines.append("Success under the model / median seconds over successes, a single problem on one thread.\n")
    lines += _matrix(summaries, order, lambda s: _cell(s.model_success, s.seconds_to_success, " s"), stage)
    lines.append("Success in the environment at the end of the plan (at any step).\n")
    lines += _matrix(
        summaries, order, lambda s: f"{_percent(s.real_success)} ({100 * s.real_success_any.value:.0f} %)", stage
    )
    first = order[0]
    lines.append(f"McNemar's exact p against {first}: under the model / in the environment at the end.\n")
    lines += _matrix(summaries, order, lambda s: f"{_p(s.p_model)} / {_p(s.p_real)}", stage)
    lines.append("Iterations / predictions of one model step per plan.\n")
    lines += _matrix(summaries, order, lambda s: f"{s.iterations} / {s.model_rows:,.0f}", stage)
    return lines


def _closed_tables(summaries: Sequence[ClosedSummary], order: Sequence[str]) -> list[str]:
    lines = []
    for limit in sorted({summary.milliseconds for summary in summaries}):
        these = [summary for summary in summaries if summary.milliseconds == limit]
        lines.append(f"## Closed loop, {limit:g} ms per decision, {max(s.goals for s in these)} goals\n")
        lines.append("Success within 2 H steps / median steps over successes; (p) McNemar's against the first.\n")
        lines += _matrix(
            these,
            order,
            lambda s: (
                _cell(s.success, s.steps_to_success, " steps") + ("" if s.p_value is None else f" ({_p(s.p_value)})")
            ),
            "closed",
        )
        lines += ["Iterations per decision.\n", *_matrix(these, order, lambda s: str(s.iterations), "closed")]
    return lines


def _matrix(summaries: Sequence[Any], order: Sequence[str], cell: Callable[[Any], str], stage: str) -> list[str]:
    """A markdown table: a line per horizon and a column per contestant; for ablations the other way round."""
    cells = {(s.horizon, s.planner): cell(s) for s in summaries}
    horizons = sorted({s.horizon for s in summaries})
    names = [name for name in order if any((h, name) in cells for h in horizons)]
    if stage == "ablation":
        head, rows = (
            ["", *(f"H = {h}" for h in horizons)],
            [[n, *(cells.get((h, n), "") for h in horizons)] for n in names],
        )
    else:
        head, rows = ["H", *names], [[str(h), *(cells.get((h, n), "") for n in names)] for h in horizons]
    return [*("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)), ""]


def _tuning_table(content: dict[str, Any]) -> list[str]:
    lines = ["## Tuning\n", "| planner | trials | defaults | chosen | settings |", "| --- | --- | --- | --- | --- |"]
    for name, found in content["planners"].items():
        trials = found["trials"]
        # Chosen by hand, the settings may be none of the trials.
        best = next((trial for trial in trials if trial["settings"] == found["chosen"]), None)
        shares = [f"{100 * t['model_success'] / t['goals']:.0f} %" if t else "-" for t in (trials[0], best)]
        chosen = ", ".join(f"{key} {value}" for key, value in found["chosen"].items()) or "defaults"
        lines.append(f"| {name} | {len(trials)} | {shares[0]} | {shares[1]} | {chosen} |")
    return [*lines, ""]


def _cell(share: Interval, median: float | None, unit: str) -> str:
    return _percent(share) + (" / -" if median is None else f" / {median:.3g}{unit}")


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _p(value: float | None) -> str:
    return "-" if value is None else "p<0.001" if value < 0.001 else f"p={value:.3f}"


# ----- plots ------------------------------------------------------------------------------------------------


def plot_open(
    rows: Sequence[OpenRow], summaries: Sequence[OpenSummary], order: Sequence[str], out: Path, stage: str
) -> list[Path]:
    """Draw success against horizon, and success and cost against seconds; return the files."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    horizons = sorted({summary.horizon for summary in summaries})
    measures: list[tuple[str, Callable[[OpenSummary], Interval]]] = [
        ("under the model", lambda s: s.model_success),
        ("in the environment, at the end", lambda s: s.real_success),
    ]
    figure, panels = _figure(len(measures))
    for axes, (title, measure) in zip(panels, measures, strict=True):
        _success_lines(axes, summaries, order, measure)
        axes.set_title(f"success {title}", fontsize=10)
    files = [_save(figure, out / f"{stage}_success.png")]

    for quantity in ("success", "cost"):
        figure, panels = _figure(len(horizons))
        for axes, horizon in zip(panels, horizons, strict=True):
            for index, name in enumerate(order):
                mine = [row for row in rows if (row.horizon, row.planner) == (horizon, name)]
                if not mine:
                    continue
                points = np.array([row.points() for row in mine], dtype=np.float64)  # [goals, checkpoints, 4]
                seconds = np.median(points[:, :, 1], axis=0)
                if quantity == "success":
                    values = 100 * points[:, :, 3].mean(axis=0)
                else:
                    values = np.median(points[:, :, 2], axis=0)
                axes.plot(seconds, values, label=name, **_style(index))
            axes.set_title(f"H = {horizon}", fontsize=10)
            axes.set_xlabel("seconds for one problem")
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            if quantity == "success":
                axes.set_ylim(-3, 103)
                axes.set_ylabel("success under the model [%]")
            else:
                axes.set_yscale("log")
                axes.set_ylabel("median true rollout cost")
        files.append(_save(figure, out / f"{stage}_{quantity}_seconds.png"))
    return files


def _plot_closed(summaries: Sequence[ClosedSummary], order: Sequence[str], path: Path) -> Path:
    limits = sorted({summary.milliseconds for summary in summaries})
    figure, panels = _figure(len(limits))
    for axes, limit in zip(panels, limits, strict=True):
        these = [summary for summary in summaries if summary.milliseconds == limit]
        _success_lines(axes, these, order, lambda s: s.success)
        axes.set_title(f"success in closed loop, {limit:g} ms per decision", fontsize=10)
    return _save(figure, path)


def _success_lines(
    axes: Any, summaries: Sequence[Any], order: Sequence[str], measure: Callable[[Any], Interval]
) -> None:
    """Success with its interval against the horizon, a line per contestant, set apart a little."""
    for index, name in enumerate(order):
        points = [(s.horizon, measure(s)) for s in summaries if s.planner == name]
        if points:
            at = [horizon + 0.6 * (index - (len(order) - 1) / 2) for horizon, _ in points]
            rates = [100 * share.value for _, share in points]
            below = [100 * (share.value - share.low) for _, share in points]
            above = [100 * (share.high - share.value) for _, share in points]
            axes.errorbar(at, rates, yerr=[below, above], capsize=2, linewidth=1.2, label=name, **_style(index))
    axes.set_xticks(sorted({s.horizon for s in summaries}))
    axes.set_ylim(-3, 103)
    axes.set_xlabel("environment steps to the goal, H")
    axes.set_ylabel("goals [%], 95 % Wilson interval")


def _style(index: int) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "marker": "osD^vPX*<>"[index % 10], "markersize": 4}


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels + 1.4, 4.0), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _save(figure: Any, path: Path) -> Path:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for axes in figure.axes[1:]:
        more = axes.get_legend_handles_labels()
        for handle, label in zip(*more, strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(temporary, dpi=140)
    os.replace(temporary, path)
    return path
