"""The rows of the planning benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class BenchmarkRow:
    """What every stage's rows have.

    Attributes:
        planner: the contestant's name.
        horizon: H, environment steps to the goal; where the environment sets it, steps that the plan spans.
        goal: seed of the episode.
    """

    planner: str
    horizon: int
    goal: int

    @property
    def limit(self) -> float:
        """The time limit that tells rows of a stage apart."""
        return 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        """What only one row of a stage may have."""
        return self.planner, self.horizon, self.goal, self.limit


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
        steps: steps taken; the episode ends with success, or when the environment ends it.
    """

    milliseconds: float
    iterations: int
    success: int
    steps: int

    @property
    def limit(self) -> float:
        return self.milliseconds


_FLAGS = ("real_success", "real_success_any", "model_success", "success")


def misfit(row: BenchmarkRow, settings: Mapping[str, Any]) -> str | None:
    """What of a row a stage with these settings cannot have made, in a sentence; None if it can have."""
    if row.planner not in settings["contestants"]:
        return f"expected a row of {' or '.join(settings['contestants'])}, got one of {row.planner[:40]!r}"
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name in _FLAGS and value not in (0, 1):
            return f"expected 0 or 1 for {field.name}, got {value}"
        # A plan can cost infinity or NaN; everything else is a count or a measurement.
        if isinstance(value, int | float) and field.name != "cost" and not (math.isfinite(value) and value >= 0):
            return f"expected a finite {field.name} of 0 or more, got {value}"
    if isinstance(row, OpenRow):
        try:
            row.points()
        except ValueError:
            return f"expected a curve of iterations:seconds:cost:success, got {row.curve[:40]!r}"
    return None
