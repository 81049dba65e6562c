"""What an evaluation yields: a row per episode and entrant, their summary, and the folder that keeps them.

The folder holds results.csv, rewritten whole under a temporary name after every episode (so it is complete at
any moment the process may be killed), and results.json with settings, versions, seeds and, once finished, the
summary.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from grasp_agent.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_exact,
    paired_difference,
    wilson_interval,
)

COLUMNS = (
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
)
CSV_NAME, JSON_NAME = "results.csv", "results.json"
PACKAGES = ("grasp-agent", "gymnasium", "numpy", "torch", "stable-baselines3", "pymunk")


@dataclass(frozen=True)
class EpisodeResult:
    """One entrant's episode.

    Attributes:
        entrant: its name.
        episode: index of the episode in the evaluation.
        seed: what the environment was reset with.
        success: 1 if the task was solved at any step, else 0.
        success_final: 1 if it was solved at the last step, else 0.
        total_return: sum of rewards (column "return").
        best_coverage: highest coverage seen; None in environments that report none.
        steps: environment steps taken.
        steps_to_success: steps until first solved; None if never.
        latency_p50_ms: median time of a decision, milliseconds.
        latency_p95_ms: its 95th percentile.
    """

    entrant: str
    episode: int
    seed: int
    success: int
    success_final: int
    total_return: float
    best_coverage: float | None
    steps: int
    steps_to_success: int | None
    latency_p50_ms: float
    latency_p95_ms: float

    def to_row(self) -> list[str]:
        """The fields as `COLUMNS`; numbers written so that reading them back gives the same numbers."""
        return ["" if value is None else str(value) for value in asdict(self).values()]

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> EpisodeResult:
        """The inverse of `to_row`, from a mapping of column to text."""
        return cls(
            entrant=row["entrant"],
            episode=int(row["episode"]),
            seed=int(row["seed"]),
            success=int(row["success"]),
            success_final=int(row["success_final"]),
            total_return=float(row["return"]),
            best_coverage=float(row["best_coverage"]) if row["best_coverage"] else None,
            steps=int(row["steps"]),
            steps_to_success=int(row["steps_to_success"]) if row["steps_to_success"] else None,
            latency_p50_ms=float(row["latency_p50_ms"]),
            latency_p95_ms=float(row["latency_p95_ms"]),
        )


@dataclass(frozen=True)
class EntrantSummary:
    """An entrant's episodes in figures; intervals are 95 %.

    Attributes:
        entrant: its name.
        episodes: how many it played.
        success: share solved at any step, Wilson interval.
        success_final: share solved at the last step, Wilson interval.
        mean_return: mean sum of rewards, bootstrap interval.
        mean_best_coverage: mean over episodes; None without coverage.
        median_steps_to_success: over the solved episodes; None if there are none.
        latency_p50_ms: median over episodes of the episodes' medians.
        latency_p95_ms: median over episodes of the episodes' 95th percentiles.
        difference: success minus the first entrant's on the same episodes; None for the first entrant.
        p_value: McNemar's exact test of that difference; None for the first entrant.
    """

    entrant: str
    episodes: int
    success: Interval
    success_final: Interval
    mean_return: Interval
    mean_best_coverage: float | None
    median_steps_to_success: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    difference: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class Results:
    """A finished evaluation.

    Attributes:
        settings: everything that determines the episodes: environment, seeds, entrants.
        rows: one per episode and entrant, in the order of episodes, then of entrants.
    """

    settings: dict[str, Any]
    rows: tuple[EpisodeResult, ...]

    def of(self, entrant: str) -> list[EpisodeResult]:
        """The rows of one entrant, in the order of episodes."""
        return [row for row in self.rows if row.entrant == entrant]

    def summary(self) -> list[EntrantSummary]:
        """One summary per entrant, in the order of the entrants."""
        names = list(self.settings["entrants"])
        first = [row.success for row in self.of(names[0])]
        return [_summarise(self.of(name), None if name == names[0] else first) for name in names]


def _summarise(rows: Sequence[EpisodeResult], first: Sequence[int] | None) -> EntrantSummary:
    successes = [row.success for row in rows]
    coverage = [row.best_coverage for row in rows if row.best_coverage is not None]
    needed = [row.steps_to_success for row in rows if row.steps_to_success is not None]
    return EntrantSummary(
        entrant=rows[0].entrant,
        episodes=len(rows),
        success=wilson_interval(sum(successes), len(rows)),
        success_final=wilson_interval(sum(row.success_final for row in rows), len(rows)),
        mean_return=bootstrap_mean([row.total_return for row in rows]),
        mean_best_coverage=float(np.mean(coverage)) if coverage else None,
        median_steps_to_success=float(np.median(needed)) if needed else None,
        latency_p50_ms=float(np.median([row.latency_p50_ms for row in rows])),
        latency_p95_ms=float(np.median([row.latency_p95_ms for row in rows])),
        difference=None if first is None else paired_difference(first, successes),
        p_value=None if first is None else mcnemar_exact(first, successes),
    )


class ResultsFolder:
    """Keeps an evaluation's rows on disk, so that a killed run goes on where it stopped.

    Args:
        folder: created if need be; may hold an unfinished (or finished) run with the same settings.
        settings: JSON-serialisable; what determines the episodes.

    Raises:
        ValueError: the folder holds a run with other settings, or files that are not an evaluation's.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.rows: list[EpisodeResult] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / JSON_NAME).exists() or (self.folder / CSV_NAME).exists():
            self._resume()
        else:
            self._write_json(summary=None)

    def append(self, row: EpisodeResult) -> None:
        """Add a finished episode; it is on disk when this returns."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.to_row() for row in self.rows)
        write_text(self.folder / CSV_NAME, text.getvalue())

    def finish(self, results: Results) -> None:
        """Write the summary beside the rows."""
        self._write_json(summary=[asdict(entrant) for entrant in results.summary()])

    def _write_json(self, summary: list[dict[str, Any]] | None) -> None:
        content = {"settings": self.settings, "versions": versions(), "summary": summary}
        write_text(self.folder / JSON_NAME, json.dumps(content, indent=2) + "\n")

    def _resume(self) -> None:
        advice = "use another folder, or remove this one"
        try:
            written = json.loads((self.folder / JSON_NAME).read_text())["settings"]
            if (self.folder / CSV_NAME).exists():
                with open(self.folder / CSV_NAME, newline="") as file:
                    self.rows = [EpisodeResult.from_row(row) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder}: expected {JSON_NAME} and {CSV_NAME} of an evaluation, got files that cannot"
                f" be read ({type(error).__name__}: {error}); {advice}"
            ) from error
        different = [key for key in self.settings if written.get(key) != self.settings[key]]
        if different:
            raise ValueError(
                f"{self.folder}: expected a run with the same settings to continue, got one with other"
                f" {' and '.join(different)}; {advice}"
            )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, never meets half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
