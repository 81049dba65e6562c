"""The planning benchmark for people: results.json, table.md in the paper's layout, and plots, from a results folder."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grasp_agent.benchmark.calibration import read_timings
from grasp_agent.benchmark.plots import plot_closed, plot_open
from grasp_agent.benchmark.rows import ClosedRow, OpenRow, misfit
from grasp_agent.benchmark.stages import CALIBRATION_NAME, TUNING_NAME
from grasp_agent.benchmark.summaries import ClosedSummary, OpenSummary, summarise_closed, summarise_open
from grasp_agent.evaluation.statistics import Interval
from grasp_agent.files.atomic import write_text
from grasp_agent.files.reading import read_json
from grasp_agent.files.records import Records
from grasp_agent.files.versions import versions

_TUNING_LIMIT = 100_000_000

PLANNED = {"open": "One open-loop plan", "ablation": "GRASP with one thing changed"}
"""Stages that report single plans, and what their tables are called."""


def write_report(out: Path) -> list[Path]:
    """Write results.json, table.md and the plots of all stages whose rows are in a folder; return their paths.

    Raises:
        ValueError: a file of a stage is damaged or was changed.
    """
    parts, files, settings, results = ["# Planning benchmark\n", f"{machine()}\n"], [], {}, {}
    for stage in ("open", "closed", "ablation", "tune"):
        if not (out / f"{stage}.csv").exists():
            continue
        if stage == "closed":
            kept = Records(out, stage, ClosedRow, None, ["contestants"], misfit)
            order, settings[stage] = list(kept.settings["contestants"]), kept.settings
            closed = summarise_closed(kept.rows, order)
            results[stage] = [asdict(summary) for summary in closed]
            parts += _closed_tables(closed, order)
            files.append(plot_closed(closed, order, out / "closed_success.png"))
            continue
        table = Records(out, stage, OpenRow, None, ["contestants"], misfit)
        opened, about = table.rows, table.settings
        order, settings[stage] = list(about["contestants"]), about
        summaries = summarise_open(opened, order)
        results[stage] = [asdict(summary) for summary in summaries]
        if stage != "tune":
            parts += _open_tables(stage, about, summaries, order)
            files += plot_open(opened, summaries, order, out, stage)
    if (out / TUNING_NAME).exists():
        try:
            parts += _tuning_table(read_json(out / TUNING_NAME, limit=_TUNING_LIMIT))
        except (ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{out / TUNING_NAME}: expected the results of stage tune, got others ({reason})"
            ) from None
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


def _calibration(path: Path) -> list[dict[str, Any]]:
    """What was timed, and the seconds, without those of every single iteration."""
    return [
        {**json.loads(key), "fixed": timing.fixed, "per_iteration": timing.per_iteration}
        for key, timing in read_timings(path).items()
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
    goals, first = max(s.goals for s in summaries if s.horizon is not None), order[0]
    lines = [f"## {PLANNED[stage]}, {about['seconds']:g} s, {goals} goals\n"]
    lines.append("Success under the model / median seconds over successes, a single problem on one thread.\n")
    lines += _matrix(summaries, order, lambda s: _cell(s.model_success, s.seconds_to_success, " s"), stage)
    lines.append("Success in the environment at the end of the plan (at any step).\n")
    lines += _matrix(
        summaries, order, lambda s: f"{_percent(s.real_success)} ({100 * s.real_success_any.value:.0f} %)", stage
    )
    lines.append(
        f"Exact p against {first}: under the model / in the environment at the end. McNemar's; over all horizons a "
        "goal's seed counts once (sign flips).\n"
    )
    lines += _matrix(summaries, order, lambda s: f"{_p(s.p_model)} / {_p(s.p_real)}", stage)
    single = [s for s in summaries if s.horizon is not None]
    lines.append("Iterations / predictions of one model step per plan.\n")
    lines += _matrix(single, order, lambda s: f"{s.iterations} / {s.model_rows:,.0f}", stage)
    return lines


def _closed_tables(summaries: Sequence[ClosedSummary], order: Sequence[str]) -> list[str]:
    lines = []
    for limit in sorted({summary.milliseconds for summary in summaries}):
        these = [summary for summary in summaries if summary.milliseconds == limit]
        single = [summary for summary in these if summary.horizon is not None]
        lines.append(f"## Closed loop, {limit:g} ms per decision, {max(s.goals for s in single)} goals\n")
        lines.append(f"Success within the episode (exact p against {order[0]}).\n")
        lines += _matrix(these, order, lambda s: f"{_percent(s.success)}{_in_brackets(s.p_success)}", "closed")
        lines.append("Mean steps, a failure counting its whole episode (exact p).\n")
        lines += _matrix(these, order, lambda s: f"{s.steps:.1f}{_in_brackets(s.p_steps)}", "closed")
        lines += ["Iterations per decision.\n", *_matrix(single, order, lambda s: str(s.iterations), "closed")]
    return lines


def _matrix(summaries: Sequence[Any], order: Sequence[str], cell: Callable[[Any], str], stage: str) -> list[str]:
    """A markdown table: a line per horizon and a column per contestant; for ablations the other way round."""
    cells = {(s.horizon, s.planner): cell(s) for s in summaries}
    horizons = sorted({s.horizon for s in summaries}, key=lambda h: math.inf if h is None else h)
    labels = ["all" if h is None else str(h) for h in horizons]
    names = [name for name in order if any((h, name) in cells for h in horizons)]
    if stage == "ablation":
        head = ["", *(f"H = {label}" for label in labels)]
        rows = [[n, *(cells.get((h, n), "") for h in horizons)] for n in names]
    else:
        head = ["H", *names]
        rows = [[label, *(cells.get((h, n), "") for n in names)] for h, label in zip(horizons, labels, strict=True)]
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


def _in_brackets(p: float | None) -> str:
    return "" if p is None else f" ({_p(p)})"


def _p(value: float | None) -> str:
    return "-" if value is None else "p<0.001" if value < 0.001 else f"p={value:.3f}"
