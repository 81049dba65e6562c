"""What an evaluation yields: a row per episode and entrant, and their summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from grasp_agent.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_exact,
    paired_difference,
    sign_flip,
    wilson_interval,
)


@dataclass(frozen=True)
class EpisodeResult:
    """One entrant's episode.

    Attributes:
        entrant: its name.
        episode: index of the episode in the evaluation.
        seed: what the environment was reset with.
        success: 1 if the task was solved at any step, else 0; None in environments that do not say.
        success_final: 1 if it was solved at the last step, else 0; None in environments that do not say.
        total_return: sum of rewards (column "return").
        best_progress: highest progress seen (column "best_coverage"); None in tasks that report none.
        steps: environment steps taken.
        steps_to_success: steps until first solved; None if never.
        latency_p50_ms: median time of a decision, milliseconds; of a batch of them, if several were made together.
        latency_p95_ms: its 95th percentile.
    """

    entrant: str
    episode: int
    seed: int
    success: int | None
    success_final: int | None
    total_return: float = field(metadata={"column": "return"})
    best_progress: float | None = field(metadata={"column": "best_coverage"})
    steps: int
    steps_to_success: int | None
    latency_p50_ms: float
    latency_p95_ms: float


def misfit(row: EpisodeResult, settings: Mapping[str, Any]) -> str | None:
    """What of a row an evaluation with these settings cannot have made, in a sentence; None if it can have."""
    entrants, seeds = settings["entrants"], settings["seeds"]
    if row.entrant not in entrants:
        return f"expected a row of {' or '.join(entrants)}, got one of {row.entrant[:40]!r}"
    if not 0 <= row.episode < len(seeds):
        return f"expected an episode from 0 to {len(seeds) - 1}, got {row.episode}"
    solved, steps = row.success, row.steps_to_success
    numbers = (row.total_return, row.best_progress or 0.0, row.latency_p50_ms, row.latency_p95_ms)
    checks = {
        f"the seed {seeds[row.episode]}": row.seed == seeds[row.episode],
        "finite numbers": all(map(math.isfinite, numbers)),
        "latencies of 0 or more": min(row.latency_p50_ms, row.latency_p95_ms) >= 0,
        "at least one step": row.steps >= 1,
        "1, 0 or nothing for success": solved in (0, 1, None) and row.success_final in (0, 1, None),
        "both kinds of success or none": (solved is None) == (row.success_final is None),
        "success at any step where there is some at the last": (row.success_final or 0) <= (solved or 0),
        "steps to success where there is success": (steps is not None) == (solved == 1),
        "success within the episode": steps is None or 1 <= steps <= row.steps,
    }
    wrong = next((what for what, holds in checks.items() if not holds), None)
    return None if wrong is None else f"expected {wrong} in {row.entrant}'s episode {row.episode}, got {_told(row)}"


def _told(row: EpisodeResult) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(row).items() if name not in ("entrant", "episode"))


@dataclass(frozen=True)
class EntrantSummary:
    """An entrant's episodes in figures; intervals are 95 %.

    Attributes:
        entrant: its name.
        episodes: how many it played.
        success: share solved at any step, Wilson interval; None in environments that do not say.
        success_final: share solved at the last step, Wilson interval; None in environments that do not say.
        mean_return: mean sum of rewards, bootstrap interval.
        mean_best_progress: mean over episodes (column "mean_best_coverage"); None in tasks that report none.
        median_steps_to_success: over the solved episodes; None if there are none.
        latency_p50_ms: median over episodes of the episodes' medians.
        latency_p95_ms: median over episodes of the episodes' 95th percentiles.
        difference: success minus the first entrant's on the same episodes; None for the first entrant, and in
            environments that do not tell success.
        p_value: McNemar's exact test of that difference; None where there is none.
        return_difference: mean return minus the first entrant's on the same episodes, bootstrap interval; None for the
            first entrant.
        return_p_value: paired permutation test of that difference; None for the first entrant.
    """

    entrant: str
    episodes: int
    success: Interval | None
    success_final: Interval | None
    mean_return: Interval
    mean_best_progress: float | None = field(metadata={"column": "mean_best_coverage"})
    median_steps_to_success: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    difference: Interval | None
    p_value: float | None
    return_difference: Interval | None
    return_p_value: float | None


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
        first = self.of(names[0])
        return [_summarise(self.of(name), None if name == names[0] else first) for name in names]


def _summarise(rows: Sequence[EpisodeResult], first: Sequence[EpisodeResult] | None) -> EntrantSummary:
    progress = [row.best_progress for row in rows if row.best_progress is not None]
    needed = [row.steps_to_success for row in rows if row.steps_to_success is not None]
    returns, successes, final = (
        [row.total_return for row in rows],
        _known(rows, "success"),
        _known(rows, "success_final"),
    )
    others = None if first is None else _known(first, "success")
    gains = None if first is None else [a - b.total_return for a, b in zip(returns, first, strict=True)]
    return EntrantSummary(
        entrant=rows[0].entrant,
        episodes=len(rows),
        success=None if successes is None else wilson_interval(sum(successes), len(rows)),
        success_final=None if final is None else wilson_interval(sum(final), len(rows)),
        mean_return=bootstrap_mean(returns),
        mean_best_progress=float(np.mean(progress)) if progress else None,
        median_steps_to_success=float(np.median(needed)) if needed else None,
        latency_p50_ms=float(np.median([row.latency_p50_ms for row in rows])),
        latency_p95_ms=float(np.median([row.latency_p95_ms for row in rows])),
        difference=None if successes is None or others is None else paired_difference(others, successes),
        p_value=None if successes is None or others is None else mcnemar_exact(others, successes),
        return_difference=None if gains is None else bootstrap_mean(gains),
        return_p_value=None if gains is None else sign_flip(gains),
    )


def _known(rows: Sequence[EpisodeResult], name: str) -> list[int] | None:
    """The rows' values of a field, if all are known."""
    values = [getattr(row, name) for row in rows]
    return None if None in values else values
