"""Rows of an earlier run that it cannot have made: one sentence, before anything is played, and nothing is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from dot_world import ENV_ID, LIMIT, DotEnv, register

from grasp_agent.evaluation import evaluate

register()
SEEDS = [3, 4, 5]
NAMES = ["expert", "zero"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, whose digests were taken out as if an older version had made it."""
    evaluate(NAMES, ENV_ID, SEEDS, out=tmp_path, progress=False)
    content = json.loads((tmp_path / "results.json").read_text())
    del content["sha256"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    return tmp_path


def edit(file: Path, number: int, **cells: Any) -> None:
    with open(file, newline="") as opened:
        rows = list(csv.DictReader(opened))
    rows[number] |= cells
    with open(file, "w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# The rows: episode 0 of the expert (who succeeds), of zero (who does not), then episode 1 of both, ...
@pytest.mark.parametrize(
    ("number", "cells", "message"),
    [
        (0, {"entrant": "cem"}, "expected a row of expert or zero, got one of 'cem'"),
        (0, {"episode": 3}, "expected an episode from 0 to 2, got 3"),
        (0, {"episode": -1}, "expected an episode from 0 to 2, got -1"),
        (0, {"seed": 4}, "expected the seed 3 in expert's episode 0, got seed 4"),
        (0, {"success": 2}, "expected 1, 0 or nothing for success"),
        (0, {"success_final": -1}, "expected 1, 0 or nothing for success"),
        (0, {"success": ""}, "expected both kinds of success or none"),
        (0, {"success": 0}, "success at any step where there is some at the last"),
        (1, {"success": 1}, "expected steps to success where there is success"),
        (1, {"steps_to_success": 3}, "expected steps to success where there is success"),
        (0, {"steps_to_success": LIMIT + 1}, "expected success within the episode"),
        (0, {"return": "nan"}, "expected finite numbers"),
        (0, {"return": "-inf"}, "expected finite numbers"),
        (0, {"best_coverage": "nan"}, "expected finite numbers"),
        (0, {"latency_p50_ms": "inf"}, "expected finite numbers"),
        (0, {"latency_p95_ms": -1.0}, "expected latencies of 0 or more"),
        (1, {"steps": 0}, "expected at least one step"),
        (2, {"episode": 0, "seed": 3}, r"expected one row of a kind, got two that differ \(expert, 0, 3\)"),
    ],
)
def test_an_edited_row_is_refused(
    number: int, cells: dict[str, Any], message: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run / "results.csv"
    edit(file, number, **cells)
    before = {path: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr(DotEnv, "step", lambda *_: pytest.fail("it was played"))
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(NAMES, ENV_ID, SEEDS, out=run, progress=False)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_rows_that_suit_are_taken(run: Path) -> None:
    edit(run / "results.csv", 0)
    evaluate(NAMES, ENV_ID, SEEDS, out=run, progress=False)


def test_rewards_that_are_no_numbers_are_refused_where_they_arise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DotEnv, "_distance", lambda self: float("nan"))
    with pytest.raises(ValueError, match=r"zero, seed 3: expected a finite reward .*, got nan at step 1"):
        evaluate(["zero"], ENV_ID, [3], out=tmp_path, progress=False)
