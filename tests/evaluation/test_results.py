"""Rows, summaries and the folder that keeps them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grasp_agent.evaluation.results import COLUMNS, EpisodeResult, Results, ResultsFolder
from grasp_agent.evaluation.statistics import mcnemar_exact, wilson_interval
from grasp_agent.evaluation.tables import plot_success, results_table

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
        "best_coverage": 0.1 * episode,
        "steps": 50,
        "steps_to_success": steps_to_success,
        "latency_p50_ms": 10.0 + episode,
        "latency_p95_ms": 20.0 + episode,
    }
    return EpisodeResult(**{**facts, **changes})


GRASP_ROWS = [row("grasp", 0, 12), row("grasp", 1, 20), row("grasp", 2, 30), row("grasp", 3, None)]
ZERO_ROWS = [row("zero", episode, None) for episode in range(4)]
RESULTS = Results(SETTINGS, tuple(r for pair in zip(GRASP_ROWS, ZERO_ROWS, strict=True) for r in pair))


@pytest.mark.parametrize("result", [GRASP_ROWS[1], ZERO_ROWS[2], row('a, "b"', 0, None, best_coverage=None)])
def test_a_row_written_and_read_back_is_the_same(result: EpisodeResult, tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, SETTINGS)
    folder.append(result)
    assert ResultsFolder(tmp_path, SETTINGS).rows == [result]


def test_csv_has_the_promised_columns_with_empty_cells_for_what_never_happened(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, SETTINGS)
    folder.append(row("zero", 1, None, best_coverage=None))
    folder.append(row("grasp", 1, 20))
    with open(tmp_path / "results.csv", newline="") as file:
        header, zero, grasp = csv.reader(file)
    assert header == [
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
    assert tuple(header) == COLUMNS
    assert zero[:4] == ["zero", "1", "11", "0"]
    assert (zero[6], zero[8]) == ("", "")
    assert (grasp[3], grasp[8]) == ("1", "20")


def test_summary_of_hand_counted_episodes() -> None:
    grasp, zero = RESULTS.summary()
    assert (grasp.entrant, zero.entrant) == ("grasp", "zero")
    assert grasp.success == wilson_interval(3, 4)
    assert grasp.success_final == wilson_interval(2, 4)
    assert grasp.median_steps_to_success == 20
    assert zero.median_steps_to_success is None
    assert grasp.mean_return.value == pytest.approx(-0.5)
    assert grasp.mean_best_coverage == pytest.approx(0.15)
    assert (grasp.latency_p50_ms, grasp.latency_p95_ms) == (11.5, 21.5)
    assert grasp.difference is None
    assert grasp.p_value is None
    assert zero.difference is not None
    assert zero.difference.value == -0.75
    assert zero.p_value == mcnemar_exact([1, 1, 1, 0], [0] * 4) == 0.25


def test_finished_folder_holds_settings_versions_seeds_and_summary(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, SETTINGS)
    unfinished = json.loads((tmp_path / "results.json").read_text())
    assert unfinished["summary"] is None
    folder.finish(RESULTS)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["settings"] == SETTINGS
    assert {"python", "torch", "gymnasium"} <= content["versions"].keys()
    assert [entrant["entrant"] for entrant in content["summary"]] == ["grasp", "zero"]
    assert content["summary"][0]["success"]["value"] == 0.75
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"seeds": [1, 2]}, "seeds"), ({"entrants": {}}, "entrants"), ({"env_kwargs": {"a": 1}}, "env_kwargs")],
)
def test_another_run_in_the_same_folder_is_refused_and_loses_nothing(
    tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    ResultsFolder(tmp_path, SETTINGS).append(GRASP_ROWS[0])
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(ValueError, match=f"same settings to continue, got one with other {name}; use another folder"):
        ResultsFolder(tmp_path, {**SETTINGS, **change})
    assert (tmp_path / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.csv", "entrant,episode\ngrasp,0\n"),
        ("results.csv", ",".join(COLUMNS) + "\ngrasp,zero,0,0,0,0,0,0,0,0,0\n"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    ResultsFolder(tmp_path, SETTINGS).append(GRASP_ROWS[0])
    (tmp_path / name).write_text(content)
    with pytest.raises(
        ValueError, match=r"expected results.json and results.csv of an evaluation.*use another"
    ) as caught:
        ResultsFolder(tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_csv_without_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("somebody's own data\n")
    with pytest.raises(ValueError, match="cannot be read"):
        ResultsFolder(tmp_path, SETTINGS)
    assert (tmp_path / "results.csv").read_text() == "somebody's own data\n"


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


def test_plot_is_a_picture_under_its_own_name_only(tmp_path: Path) -> None:
    path = plot_success(RESULTS, tmp_path / "plots" / "success.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["success.png"]
