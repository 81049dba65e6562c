"""Evaluations for people: a table for the terminal and a plot."""

from __future__ import annotations

from pathlib import Path

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
    episodes = len(settings["seeds"])
    table = Table(
        title=f"{settings['environment']}, {episodes} {'episode' if episodes == 1 else 'episodes'} each",
        caption=f"[95 % interval]: Wilson for success; vs first: difference to {summaries[0].entrant} on the"
        " same episodes, with McNemar's exact p; ms: time of a decision",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("entrant", overflow="fold")
    with_progress = any(entrant.mean_best_progress is not None for entrant in summaries)
    progress = task_for(settings["environment"]).progress_key or "progress"
    progress = progress if len(progress) <= 6 else f"{progress[:5]}."
    columns = ["success\n%", "at the\nend %", "vs first", *[f"best\n{progress}"] * with_progress, "return"]
    for name in (*columns, "steps to\nsucceed", "ms p50\np95"):
        table.add_column(name, justify="right", no_wrap=True)
    for entrant in summaries:
        cells = [
            entrant.entrant,
            _percent(entrant.success),
            _percent(entrant.success_final),
            _difference(entrant),
        ]
        if with_progress:
            cells.append("" if entrant.mean_best_progress is None else f"{entrant.mean_best_progress:.2f}")
        cells += [
            f"{entrant.mean_return.value:.1f}",
            "" if entrant.median_steps_to_success is None else f"{entrant.median_steps_to_success:g}",
            f"{entrant.latency_p50_ms:.1f}\n{entrant.latency_p95_ms:.1f}",
        ]
        # Plain text: a name like "[b]" is a name, not markup.
        table.add_row(*map(Text, cells))
    return table


def plot_success(results: Results, path: str | Path) -> Path:
    """Draw success at any step with its interval, a bar per entrant; the suffix says in which format."""
    from matplotlib.figure import Figure

    path = Path(path)
    summaries = results.summary()
    figure = Figure(figsize=(6.4, 1.2 + 0.5 * len(summaries)), layout="constrained")
    axes = figure.add_subplot()
    rates = [100 * entrant.success.value for entrant in summaries]
    below = [100 * (entrant.success.value - entrant.success.low) for entrant in summaries]
    above = [100 * (entrant.success.high - entrant.success.value) for entrant in summaries]
    axes.barh([entrant.entrant for entrant in summaries], rates, xerr=[below, above], capsize=4, color="#8fb0d9")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("episodes solved [%], 95 % Wilson interval")
    axes.set_title(f"{results.settings['environment']}, {len(results.settings['seeds'])} episodes", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _percent(interval: Interval, signed: bool = False) -> str:
    value, low, high = (f"{100 * x:{'+' if signed else ''}.0f}" for x in (interval.value, interval.low, interval.high))
    return f"{value}\n[{low}, {high}]"


def _difference(entrant: EntrantSummary) -> str:
    if entrant.difference is None or entrant.p_value is None:
        return ""
    p = "p<0.001" if entrant.p_value < 0.001 else f"p={entrant.p_value:.3f}"
    return f"{_percent(entrant.difference, signed=True)}\n{p}"
