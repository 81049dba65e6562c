"""The planning benchmark's plots: success against horizon, success and cost against seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from grasp_agent.benchmark.rows import OpenRow
from grasp_agent.benchmark.summaries import ClosedSummary, OpenSummary, over_time
from grasp_agent.evaluation.statistics import Interval
from grasp_agent.files.atomic import replacing


def plot_open(
    rows: Sequence[OpenRow], summaries: Sequence[OpenSummary], order: Sequence[str], out: Path, stage: str
) -> list[Path]:
    """Draw success against horizon, and success and cost against seconds; return the files."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    single = [summary for summary in summaries if summary.horizon is not None]
    horizons = sorted({summary.horizon for summary in single if summary.horizon is not None})
    measures: list[tuple[str, Callable[[OpenSummary], Interval]]] = [
        ("under the model", lambda s: s.model_success),
        ("in the environment, at the end", lambda s: s.real_success),
    ]
    if stage == "ablation":
        figure, panels = _figure(len(measures), rows=len(horizons))
        for axes, (horizon, (title, measure)) in zip(panels, product(horizons, measures), strict=True):
            _success_dots(axes, [s for s in single if s.horizon == horizon], measure)
            axes.set_title(f"success {title}, H = {horizon}", fontsize=10)
    else:
        figure, panels = _figure(len(measures))
        for axes, (title, measure) in zip(panels, measures, strict=True):
            _success_lines(axes, single, order, measure)
            axes.set_title(f"success {title}", fontsize=10)
    files = [_save(figure, out / f"{stage}_success.png")]

    for quantity in ("success", "cost"):
        figure, panels = _figure(len(horizons))
        for axes, horizon in zip(panels, horizons, strict=True):
            for index, name in enumerate(order):
                mine = [row for row in rows if (row.horizon, row.planner) == (horizon, name)]
                if not mine:
                    continue
                seconds, shares, costs = over_time(mine)
                values = 100 * shares if quantity == "success" else costs
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


def plot_closed(summaries: Sequence[ClosedSummary], order: Sequence[str], path: Path) -> Path:
    """Draw success and steps against horizon for every time limit; return the file."""
    limits = sorted({summary.milliseconds for summary in summaries})
    figure, panels = _figure(len(limits), rows=2)
    for column, limit in enumerate(limits):
        these = [s for s in summaries if s.milliseconds == limit and s.horizon is not None]
        above, below = panels[column], panels[len(limits) + column]
        _success_lines(above, these, order, lambda s: s.success)
        above.set_title(f"closed loop, {limit:g} ms per decision", fontsize=10)
        for index, name in enumerate(order):
            points = [(s.horizon, s.steps) for s in these if s.planner == name]
            if points:
                below.plot(*zip(*points, strict=True), linewidth=1.2, label=name, **_style(index))
        below.set_xticks(sorted({s.horizon for s in these if s.horizon is not None}))
        below.set_ylim(bottom=0)
        below.set_xlabel("environment steps to the goal, H")
        below.set_ylabel("mean steps, failures whole episodes")
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


def _success_dots(axes: Any, summaries: Sequence[OpenSummary], measure: Callable[[OpenSummary], Interval]) -> None:
    """Success with its interval, a row per contestant; the first one's is a line through all."""
    shares = [measure(summary) for summary in summaries]
    rates = [100 * share.value for share in shares]
    below = [100 * (share.value - share.low) for share in shares]
    above = [100 * (share.high - share.value) for share in shares]
    at = range(len(shares))
    axes.axvline(rates[0], color="0.8", linewidth=1)
    axes.errorbar(rates, at, xerr=[below, above], fmt="o", capsize=2, markersize=4)
    axes.set_yticks(at, [summary.planner for summary in summaries], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-3, 103)
    axes.set_xlabel("goals [%], 95 % Wilson interval")


def _style(index: int) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "marker": "osD^vPX*<>"[index % 10], "markersize": 4}


def _figure(columns: int, rows: int = 1) -> tuple[Any, list[Any]]:
    """A figure and its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns + 1.4, 4.0 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _save(figure: Any, path: Path) -> Path:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for axes in figure.axes[1:]:
        more = axes.get_legend_handles_labels()
        for handle, label in zip(*more, strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    if handles:
        figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=140)
    return path
