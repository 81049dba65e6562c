"""What the rows of the planning benchmark say: a summary per contestant and horizon, and over all horizons together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from grasp_agent.benchmark.rows import BenchmarkRow, ClosedRow, OpenRow
from grasp_agent.evaluation.statistics import Interval, sign_flip_exact, wilson_interval

Row = TypeVar("Row", bound=BenchmarkRow)


@dataclass(frozen=True)
class OpenSummary:
    """A contestant's plans for one horizon; intervals are Wilson's, 95 %.

    Attributes:
        planner: the contestant's name.
        horizon: H, environment steps to the goals; None for all horizons together.
        goals: how many.
        iterations: planner iterations per plan; None for all horizons together.
        model_success: share of plans whose predicted end meets the goal.
        seconds_to_success: median over these of the seconds until a plan first did; None if there are none.
        real_success: share that was solved in the environment at the end of the plan.
        real_success_any: share that was solved there at any step.
        mean_cost: mean true rollout cost of the plans where it is finite; None if it never is.
        model_calls: calls of the model per plan, median.
        model_rows: single predictions per plan, median.
        p_model: exact test of the success under the model against the first contestant's, same goals: McNemar's or,
            over all horizons, where a seed counts once, `sign_flip_exact`.
        p_real: the same for the success at the end in the environment.
    """

    planner: str
    horizon: int | None
    goals: int
    iterations: int | None
    model_success: Interval
    seconds_to_success: float | None
    real_success: Interval
    real_success_any: Interval
    mean_cost: float | None
    model_calls: float
    model_rows: float
    p_model: float | None
    p_real: float | None


@dataclass(frozen=True)
class ClosedSummary:
    """A contestant's episodes for one time limit and horizon.

    Attributes:
        planner: the contestant's name.
        milliseconds: time limit of a decision.
        horizon: H; None for all horizons together.
        goals: how many.
        iterations: planner iterations per decision; None if they differ between horizons.
        success: share solved at any step, with Wilson's 95 % interval.
        steps: mean length of the episodes, a failure counting all its steps.
        p_success: exact test against the first contestant on the same goals, as in `OpenSummary`.
        p_steps: the same for the steps.
    """

    planner: str
    milliseconds: float
    horizon: int | None
    goals: int
    iterations: int | None
    success: Interval
    steps: float
    p_success: float | None
    p_steps: float | None


def summarise_open(rows: Sequence[OpenRow], order: Sequence[str]) -> list[OpenSummary]:
    """One summary per horizon and contestant, in the order of horizons, then `order`."""
    summaries = []
    for horizon, name, mine, first in _groups(rows, order):
        times = [r.seconds_to_success for r in mine if r.model_success and r.seconds_to_success is not None]
        costs = [row.cost for row in mine if np.isfinite(row.cost)]
        summary = OpenSummary(
            planner=name,
            horizon=horizon,
            goals=len(mine),
            iterations=_common([row.iterations for row in mine]),
            model_success=_share(mine, lambda row: row.model_success),
            seconds_to_success=float(np.median(times)) if times else None,
            real_success=_share(mine, lambda row: row.real_success),
            real_success_any=_share(mine, lambda row: row.real_success_any),
            mean_cost=float(np.mean(costs)) if costs else None,
            model_calls=float(np.median([row.model_calls for row in mine])),
            model_rows=float(np.median([row.model_rows for row in mine])),
            p_model=_paired(first, mine, lambda row: row.model_success),
            p_real=_paired(first, mine, lambda row: row.real_success),
        )
        summaries.append(summary)
    return summaries


def summarise_closed(rows: Sequence[ClosedRow], order: Sequence[str]) -> list[ClosedSummary]:
    """One summary per time limit, horizon and contestant."""
    summaries = []
    for limit in sorted({row.milliseconds for row in rows}):
        for horizon, name, mine, first in _groups([row for row in rows if row.milliseconds == limit], order):
            summary = ClosedSummary(
                planner=name,
                milliseconds=limit,
                horizon=horizon,
                goals=len(mine),
                iterations=_common([row.iterations for row in mine]),
                success=_share(mine, lambda row: row.success),
                steps=float(np.mean([row.steps for row in mine])),
                p_success=_paired(first, mine, lambda row: row.success),
                p_steps=_paired(first, mine, lambda row: row.steps),
            )
            summaries.append(summary)
    return summaries


def over_time(rows: Sequence[OpenRow]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """At every look at the plans: seconds, the share of goals that they meet under the model, and their median cost.

    The rows are a contestant's for one horizon, so all were looked at after the same numbers of iterations.
    """
    points = np.array([row.points() for row in rows], dtype=np.float64)  # [goals, looks, 4]
    return np.median(points[:, :, 1], axis=0), points[:, :, 3].mean(axis=0), np.median(points[:, :, 2], axis=0)


def _groups(rows: Sequence[Row], order: Sequence[str]) -> list[tuple[int | None, str, list[Row], list[Row]]]:
    """(horizon, contestant, its rows, the first contestant's rows) for all that have rows.

    After the single horizons, where there are several, come all of them together (None), for contestants that have
    rows for each.
    """
    groups: list[tuple[int | None, str, list[Row], list[Row]]] = []
    horizons = sorted({row.horizon for row in rows})
    for horizon in horizons:
        by_name = {n: [r for r in rows if (r.horizon, r.planner) == (horizon, n)] for n in order}
        groups += [(horizon, name, mine, by_name[order[0]]) for name, mine in by_name.items() if mine]
    if len(horizons) > 1:
        by_name = {n: [r for r in rows if r.planner == n] for n in order}
        whole = {n: mine for n, mine in by_name.items() if {r.horizon for r in mine} == set(horizons)}
        groups += [(None, name, mine, whole.get(order[0], [])) for name, mine in whole.items()]
    return groups


def _common(numbers: Sequence[int]) -> int | None:
    """The number, if they are all the same."""
    return numbers[0] if len(set(numbers)) == 1 else None


def _share(rows: Sequence[Row], outcome: Callable[[Row], int]) -> Interval:
    return wilson_interval(sum(outcome(row) for row in rows), len(rows))


def _paired(first: Sequence[Row], mine: Sequence[Row], outcome: Callable[[Row], int]) -> float | None:
    """p-value over the goals that both had; None for the first itself, or without common goals.

    Goals of one seed at different horizons share their start, so they count as one pair.
    """
    theirs = {(row.horizon, row.goal): outcome(row) for row in first}
    differences: dict[int, int] = defaultdict(int)
    for row in mine:
        if (row.horizon, row.goal) in theirs:
            differences[row.goal] += outcome(row) - theirs[row.horizon, row.goal]
    if not differences or first[0].planner == mine[0].planner:
        return None
    return sign_flip_exact(list(differences.values()))
