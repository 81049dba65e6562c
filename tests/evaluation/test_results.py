"""Rows, summaries, and how they are shown."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grasp_agent.evaluation.results import EntrantSummary, EpisodeResult, Results
from grasp_agent.evaluation.statistics import Interval, mcnemar_exact, wilson_interval
from grasp_agent.evaluation.tables import plot_success, results_table
from grasp_agent.files.records import columns

SETTINGS: dict[str, Any] = {
    "environment": "Some-v0",
    "env_kwargs": {},
    "seeds": [10, 11, 12, 13],
    "entrants": {"grasp": {"kind": "GRASPAgent"}, "zero": {"kind": "zero"}},
}


def row(entrant: str, episode: int, steps_to_success: int | None, **changes: Any) -> EpisodeResult:
    facts: dict[str, Any] = {
        "entrant": entrant,
        "episode": episode,
        "seed": 10 + episode,
        "success": int(steps_to_success is not None),
        "success_final": int(steps_to_success is not None and episode != 0),
        "total_return": -1.0 / 3.0 * episode,
        "best_progress": 0.1 * episode,
        "steps": 50,
        "steps_to_success": steps_to_success,
        "latency_p50_ms": 10.0 + episode,
        "latency_p95_ms": 20.0 + episode,
    }
    return EpisodeResult(**{**facts, **changes})


GRASP_ROWS = [row("grasp", 0, 12), row("grasp", 1, 20), row("grasp", 2, 30), row("grasp", 3, None)]
ZERO_ROWS = [row("zero", episode, None) for episode in range(4)]
RESULTS = Results(SETTINGS, tuple(r for pair in zip(GRASP_ROWS, ZERO_ROWS, strict=True) for r in pair))


def test_columns_are_the_promised_ones() -> None:
    assert columns(EpisodeResult) == [
        "entrant",
        "episode",
        "seed",
        "success",
        "success_final",
        "return",
        "best_coverage",
        "steps",
        "steps_to_success",
        "latency_p50_ms",
        "latency_p95_ms",
    ]
    assert "mean_best_coverage" in columns(EntrantSummary)


def test_summary_of_hand_counted_episodes() -> None:
    grasp, zero = RESULTS.summary()
    assert (grasp.entrant, zero.entrant) == ("grasp", "zero")
    assert grasp.success == wilson_interval(3, 4)
    assert grasp.success_final == wilson_interval(2, 4)
    assert grasp.median_steps_to_success == 20
    assert zero.median_steps_to_success is None
    assert grasp.mean_return.value == pytest.approx(-0.5)
    assert grasp.mean_best_progress == pytest.approx(0.15)
    assert (grasp.latency_p50_ms, grasp.latency_p95_ms) == (11.5, 21.5)
    assert grasp.difference is None
    assert grasp.p_value is None
    assert zero.difference is not None
    assert zero.difference.value == -0.75
    assert zero.p_value == mcnemar_exact([1, 1, 1, 0], [0] * 4) == 0.25


def test_table_shows_what_the_summary_says_within_80_columns() -> None:
    output = io.StringIO()
    Console(width=80, file=output).print(results_table(RESULTS))
    lines = output.getvalue().splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("grasp"))
    assert lines[at].split() == ["grasp", "75", "50", "0.15", "-0.5", "20", "11.5"]
    assert lines[at + 1].split("]")[0].strip() == "[30, 95"
    assert lines[at + 1].split()[-1] == "21.5"
    zero = next(number for number, line in enumerate(lines) if line.strip().startswith("zero"))
    assert lines[zero].split() == ["zero", "0", "0", "-75", "0.15", "-0.5", "11.5"]
    assert lines[zero + 2].strip() == "p=0.250"


def without_success(returns: dict[str, list[float]]) -> Results:
    rows = [
        row(name, episode, None, success=None, success_final=None, best_progress=None, total_return=values[episode])
        for episode in range(4)
        for name, values in returns.items()
    ]
    return Results({**SETTINGS, "entrants": {name: {} for name in returns}}, tuple(rows))


def test_returns_are_compared_where_success_is_not_told(tmp_path: Path) -> None:
    results = without_success({"grasp": [5.0, 6.0, 7.0, 8.0], "zero": [1.0, 2.0, 3.0, 4.0]})
    first, other = results.summary()
    assert (first.success, first.difference, other.p_value) == (None, None, None)
    assert other.return_difference == Interval(-4.0, -4.0, -4.0)
    assert other.return_p_value == pytest.approx(2 / 16)  # two of the sixteen ways to flip four signs
    output = io.StringIO()
    Console(width=80, file=output).print(results_table(results))
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert ["grasp", "6.5", "50", "11.5"] in lines
    assert ["zero", "2.5", "-4.0", "50", "11.5"] in lines
    assert "success" not in output.getvalue().replace("tells no success", "").replace("no success", "")
    assert plot_success(results, tmp_path / "returns.png").stat().st_size > 1000


def test_the_tasks_own_word_for_progress_heads_its_column() -> None:
    def header(environment: str) -> str:
        output = io.StringIO()
        Console(width=80, file=output).print(
            results_table(replace(RESULTS, settings={**SETTINGS, "environment": environment}))
        )
        return output.getvalue()

    assert "cover." in header("grasp_envs/PushT-v0")
    assert "progr." in header("Some-v0")


def test_plot_is_a_picture_under_its_own_name_only(tmp_path: Path) -> None:
    path = plot_success(RESULTS, tmp_path / "plots" / "success.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["success.png"]
