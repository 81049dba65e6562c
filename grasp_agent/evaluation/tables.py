"""Evaluations for people: a table for the terminal and a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from grasp_agent.evaluation.results import EntrantSummary, Results
from grasp_agent.evaluation.statistics import Interval
from grasp_agent.files.atomic import replacing
from grasp_agent.tasks import task_for


def results_table(results: Results) -> Table:
    """The summary as a rich table: print it with `rich.console.Console().print`."""
    settings, summaries = results.settings, results.summary()
    episodes, told = len(settings["seeds"]), _success_told(summaries)
    first = summaries[0].entrant
    caption = f"vs first: difference to {first} on the same episodes, with "
    if told:
        caption = f"[95 % interval]: Wilson for success; {caption}McNemar's exact p"
    else:
        caption = f"[95 % interval]: bootstrap; {caption}a permutation test's p; the environment tells no success"
    table = Table(
        title=f"{settings['environment']}, {episodes} {'episode' if episodes == 1 else 'episodes'} each",
        caption=f"{caption}; ms: time of a decision",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    rows = [_cells(entrant, results, told) for entrant in summaries]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        # Plain text: a name like "[b]" is a name, not markup.
        table.add_row(*(Text(row.get(heading, "")) for heading in headings))
    return table


def _cells(entrant: EntrantSummary, results: Results, told: bool) -> dict[str, str]:
    """An entrant's row: what stands under each heading."""
    cells = {"entrant": entrant.entrant}
    if told:
        cells["success\n%"] = _percent(entrant.success)
        cells["at the\nend %"] = _percent(entrant.success_final)
        cells["vs first"] = _against(entrant.difference, entrant.p_value, _percent)
    else:
        cells["return"] = _number(entrant.mean_return)
        cells["vs first"] = _against(entrant.return_difference, entrant.return_p_value, _number)
    if entrant.mean_best_progress is not None:
        progress = task_for(results.settings["environment"]).progress_key or "progress"
        progress = progress if len(progress) <= 6 else f"{progress[:5]}."
        cells[f"best\n{progress}"] = f"{entrant.mean_best_progress:.2f}"
    if told:
        needed = entrant.median_steps_to_success
        cells["return"] = f"{entrant.mean_return.value:.1f}"
        cells["steps to\nsucceed"] = "" if needed is None else f"{needed:g}"
    else:
        cells["steps"] = f"{np.mean([row.steps for row in results.of(entrant.entrant)]):.0f}"
    cells["ms p50\np95"] = f"{entrant.latency_p50_ms:.1f}\n{entrant.latency_p95_ms:.1f}"
    return cells


def plot_success(results: Results, path: str | Path) -> Path:
    """Draw success at any step with its interval, a bar per entrant; the suffix says in which format.

    Returns are drawn in its place where the environment tells no success.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    summaries = results.summary()
    figure = Figure(figsize=(6.4, 1.2 + 0.5 * len(summaries)), layout="constrained")
    axes = figure.add_subplot()
    shown, told = [entrant.mean_return for entrant in summaries], _success_told(summaries)
    if told:
        shown = [_in_percent(entrant.success) for entrant in summaries if entrant.success is not None]
    values = [interval.value for interval in shown]
    below = [interval.value - interval.low for interval in shown]
    above = [interval.high - interval.value for interval in shown]
    axes.barh([entrant.entrant for entrant in summaries], values, xerr=[below, above], capsize=4, color="#8fb0d9")
    axes.invert_yaxis()
    if told:
        axes.set_xlim(0, 100)
    axes.set_xlabel(
        "episodes solved [%], 95 % Wilson interval" if told else "mean sum of rewards, 95 % bootstrap interval"
    )
    axes.set_title(f"{results.settings['environment']}, {len(results.settings['seeds'])} episodes", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _success_told(summaries: Sequence[EntrantSummary]) -> bool:
    return all(entrant.success is not None for entrant in summaries)


def _in_percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _percent(interval: Interval | None, signed: bool = False) -> str:
    return "" if interval is None else _written(_in_percent(interval), f"{'+' if signed else ''}.0f")


def _number(interval: Interval, signed: bool = False) -> str:
    return _written(interval, f"{'+' if signed else ''}.1f")


def _written(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}}\n[{interval.low:{form}}, {interval.high:{form}}]"


def _against(difference: Interval | None, p_value: float | None, write: Callable[[Interval, bool], str]) -> str:
    """A difference to the first entrant."""
    if difference is None or p_value is None:
        return ""
    p = "p<0.001" if p_value < 0.001 else f"p={p_value:.3f}"
    return f"{write(difference, True)}\n{p}"
