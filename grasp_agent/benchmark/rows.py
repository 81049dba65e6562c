"""The rows of the planning benchmark and the files that keep them.

STAGE.csv is rewritten whole under a temporary name after every batch, so it is complete at any moment the process may
be killed; settings.json says for every stage how its rows came about.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from grasp_agent.files.atomic import write_text

SETTINGS_NAME = "settings.json"


@dataclass(frozen=True)
class BenchmarkRow:
    """What every stage's rows have.

    Attributes:
        planner: the contestant's name.
        horizon: H, environment steps to the goal.
        goal: seed of the episode.
    """

    planner: str
    horizon: int
    goal: int

    @property
    def limit(self) -> float:
        """The time limit that tells rows of a stage apart."""
        return 0.0

    def to_row(self) -> dict[str, str]:
        """The fields as text; reading them back gives the same values."""
        return {name: "" if value is None else str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Self:
        """The inverse of `to_row`."""
        return cls(**{f.name: _PARSERS[str(f.type)](row[f.name]) for f in fields(cls)})


_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "int | None": lambda text: int(text) if text else None,
    "float | None": lambda text: float(text) if text else None,
}


@dataclass(frozen=True)
class OpenRow(BenchmarkRow):
    """One plan, made once and carried out with closed eyes.

    Attributes:
        real_success: 1 if the environment was solved at the end of the plan.
        real_success_any: 1 if it was solved at any step.
        iterations: planner iterations that the time limit was worth.
        model_success: 1 if the plan's predicted end meets the goal.
        iterations_to_success: fewest iterations (of those in `curve`) whose plan did so; None if none did.
        seconds_to_success: what they take for a single problem; None as well.
        cost: the plan's true rollout cost.
        model_calls: calls of the model's `predict`.
        model_rows: predictions of one model step, per goal.
        curve: the plan after fewer iterations, "iterations:seconds:cost:success" separated by spaces.
    """

    real_success: int
    real_success_any: int
    iterations: int
    model_success: int
    iterations_to_success: int | None
    seconds_to_success: float | None
    cost: float
    model_calls: int
    model_rows: float
    curve: str

    def points(self) -> list[tuple[int, float, float, int]]:
        """The curve as (iterations, seconds, cost, success under the model)."""
        parts = (point.split(":") for point in self.curve.split())
        return [(int(n), float(seconds), float(cost), int(success)) for n, seconds, cost, success in parts]


@dataclass(frozen=True)
class ClosedRow(BenchmarkRow):
    """One episode of an agent that replans at every step.

    Attributes:
        milliseconds: time limit of a decision.
        iterations: planner iterations that the time limit was worth.
        success: 1 if the environment was solved at any step.
        steps: steps taken; the episode ends with success, or after 2 H.
    """

    milliseconds: float
    iterations: int
    success: int
    steps: int

    @property
    def limit(self) -> float:
        return self.milliseconds


Row = TypeVar("Row", bound=BenchmarkRow)


class Table(Generic[Row]):
    """The rows of a stage on disk, complete at any moment the process may be killed.

    Args:
        out: the folder.
        stage: the rows are in STAGE.csv; settings.json says for every stage how they came about.
        kind: of the rows.
        settings: what must be the same for a stage to go on; contestants, horizons and goals may be added.

    Raises:
        ValueError: the folder holds the stage with other settings, or something else.
    """

    def __init__(self, out: Path, stage: str, kind: type[Row], settings: dict[str, Any]) -> None:
        self.path = out / f"{stage}.csv"
        self.kind = kind
        self.rows: list[Row] = []
        advice = "use another --out, or remove this one"
        try:
            stages = json.loads((out / SETTINGS_NAME).read_text()) if (out / SETTINGS_NAME).exists() else {}
            written = dict(stages.get(stage, {}))
            if self.path.exists():
                with open(self.path, newline="") as file:
                    self.rows = [kind.from_row(row) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{out}: expected a benchmark's files, got others ({reason}); {advice}") from None
        settings = json.loads(json.dumps(settings))  # as they will be read back
        if written:
            names = set(written["contestants"]) & set(settings["contestants"])
            other = [key for key in settings if key != "contestants" and written.get(key) != settings[key]]
            other += sorted(n for n in names if written["contestants"][n] != settings["contestants"][n])
            if other:
                raise ValueError(
                    f"{out}: expected stage {stage!r} with the same settings to continue, got one with another"
                    f" {' and '.join(other)}; {advice}"
                )
            settings["contestants"] = {**written["contestants"], **settings["contestants"]}
        self.order = list(settings["contestants"])
        write_text(out / SETTINGS_NAME, json.dumps({**stages, stage: settings}, indent=2) + "\n")

    def missing(self, seeds: Sequence[int], iterations: int, **belongs: Any) -> list[int]:
        """Those of the goals that have no row yet among the rows whose fields are as given.

        Raises:
            ValueError: such rows are there, made with another number of iterations.
        """
        there = [row for row in self.rows if all(getattr(row, name) == value for name, value in belongs.items())]
        for row in there:
            if getattr(row, "iterations", None) != iterations:
                raise ValueError(
                    f"{self.path}: expected {iterations} iterations of {row.planner} as now measured, got rows with "
                    "another number; use another --out, or remove this one"
                )
        done = {row.goal for row in there}
        return [seed for seed in seeds if seed not in done]

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch; it is on disk when this returns."""
        self.rows += rows
        self._write()

    def finish(self) -> list[Row]:
        """Put the rows in order."""

        self.rows.sort(key=lambda row: (row.limit, row.horizon, self.order.index(row.planner), row.goal))
        self._write()
        return self.rows

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(self.kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.to_row() for row in self.rows)
        write_text(self.path, text.getvalue())
