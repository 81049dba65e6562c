"""The planning benchmark: table 1 of the GRASP paper, in an environment with goals and with a learned world model.

    open      one plan per goal within a time limit, carried out with closed eyes; goals H steps away
    closed    the agent that replans at every step, within a time limit per decision
    ablation  GRASP with one thing changed at a time, as in `open`
    tune      random search over every planner's hyperparameters, the same number of trials, on other goals

Psenka et al., arXiv 2602.00475: success is counted under the learned model, time is the median over successes. Beside
it stands what the plans achieve in the environment.

A stage is cut into batches of goals. A batch is computed with one thread, so its rows depend neither on the number of
workers nor on when they run; it is written to OUT/STAGE.csv as soon as it is finished, and a killed run goes on from
there. Time limits become numbers of iterations (`calibration`), measured once per folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from grasp_agent.benchmark.calibration import (
    LONGEST,
    ROUNDS,
    Timing,
    calibrate,
    compute_alone,
    computing_alone,
    read_timings,
    write_timings,
)
from grasp_agent.benchmark.contestants import SPACES, describe, draw_trials, planners
from grasp_agent.benchmark.episodes import Contestant, Entry, closed_rows, open_rows, reached_test
from grasp_agent.benchmark.rows import BenchmarkRow, ClosedRow, OpenRow, misfit
from grasp_agent.core.capabilities import distance_weights_of, measures_steps
from grasp_agent.files.atomic import write_text
from grasp_agent.files.digest import model_digest, stable_repr
from grasp_agent.files.progress import progress_bar
from grasp_agent.files.records import Records
from grasp_agent.models import load_world_model
from grasp_agent.models.registry import SavedModel
from grasp_agent.objectives.goal_distance import GoalDistance, default_objective
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.workers import in_processes
from grasp_agent.tasks import objective_for

STAGES = ("open", "closed", "ablation", "tune")
CALIBRATION_NAME, TUNING_NAME = "calibration.json", "tuning.json"

Row = TypeVar("Row", bound=BenchmarkRow)

Job = Callable[..., list[Any]]
"""Computes the rows of a batch, given `world_model`."""


@dataclass(frozen=True)
class Benchmark:
    """Where the stages run and what they have in common.

    Attributes:
        model: world model, as `load_world_model` takes it.
        out: results folder; may hold an earlier run, which goes on.
        where: the environment.
        workers: processes, each with one thread.
        batch: goals that are planned for side by side.
        threshold: latent distance that counts as success under the model, see `reached_test`; None asks for a model
            whose latents are poses.
        progress: show progress bars on the standard error stream.

    Raises:
        ValueError: a number out of range; as `load_world_model`.
    """

    model: str
    out: Path
    where: GoalEnv = field(default_factory=GoalEnv)
    workers: int = 1
    batch: int = 20
    threshold: float | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("workers", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        with closing(self.where.open(self.world_model)[0]) as probe:
            self.where.begin(probe, 0)

    @cached_property
    def world_model(self) -> SavedModel:
        return load_world_model(self.model)

    @cached_property
    def objective(self) -> GoalDistance:
        """What an agent minimises in this environment."""
        return self._told or default_objective(self.world_model)

    @property
    def _told(self) -> GoalDistance | None:
        """The distance that the task asks for, if it does."""
        objective = objective_for(self.where.env_id, self.world_model, shows_goal=True)
        return objective if isinstance(objective, GoalDistance) else None

    @property
    def final_distance(self) -> GoalDistance:
        """The paper's: the distance to the goal at the end of the plan alone, all that a goal tells counting alike."""
        if self._told is None and measures_steps(self.world_model):
            return replace(self.objective, running=0.0)
        weights = distance_weights_of(self.world_model)
        if weights is not None:
            counting = np.asarray(weights) > 0
            weights = None if counting.all() else counting.astype(float).tolist()
        return replace(self._told or GoalDistance(weights=weights), running=0.0)

    @cached_property
    def digest(self) -> str:
        return model_digest(self.world_model)

    # ----- the stages ---------------------------------------------------------------------------------------

    def open_loop(
        self,
        contestants: Mapping[str, Contestant],
        horizons: Sequence[int],
        seeds: Sequence[int],
        seconds: float,
        stage: str = "open",
    ) -> list[OpenRow]:
        """Let everyone make one plan for every goal and carry it out. It is judged as in the paper, by its end alone.

        Args:
            contestants: who plans, by name; the first is the one that the others are compared to.
            horizons: H, environment steps to the goals; where the environment sets its goals itself, steps that plans
                span.
            seeds: the goals.
            seconds: time limit of a plan.
            stage: whose table the rows belong to.

        Returns:
            All rows of the stage.

        Raises:
            ValueError: the folder holds the stage with other settings, or success under the model cannot be told.
            RuntimeError: a worker process was killed.
        """
        reached_test(self.world_model, self.threshold)
        objective = self.final_distance
        common = {"seconds": seconds, "objective": stable_repr(objective)}
        table = self._table(stage, OpenRow, contestants, common)
        timings = self._calibrated(contestants, horizons, warm=False, limit=seconds, label=stage)
        jobs: list[tuple[Job, tuple[int, ...]]] = []
        for horizon in horizons:
            for name, contestant in contestants.items():
                timing = timings[name, horizon]
                iterations = timing.iterations(seconds)
                entry = Entry(name, contestant, self.where, horizon, objective, iterations)
                spent = [timing.seconds(n) for n in range(iterations + 1)]
                job = partial(open_rows, entry, self.threshold, spent)
                jobs += self._batches(job, _missing(table, seeds, iterations, planner=name, horizon=horizon))
        self._run(stage, jobs, table, len(seeds) * len(horizons) * len(contestants))
        return _finished(table)

    def closed_loop(
        self,
        contestants: Mapping[str, Contestant],
        horizons: Sequence[int],
        seeds: Sequence[int],
        budgets: Sequence[float],
    ) -> list[ClosedRow]:
        """Let agents play, replanning at every step, within `budgets` milliseconds per decision.

        Else as `open_loop`, but that plans are judged as an agent judges them.
        """
        table = self._table("closed", ClosedRow, contestants, {"objective": stable_repr(self.objective)})
        own = self.where.look_ahead(self.world_model)
        spans = {horizon: own if self.where.sets_distance else horizon for horizon in horizons}
        limit = max(budgets) / 1e3
        timings = self._calibrated(contestants, sorted({*spans.values()}), warm=True, limit=limit, label="closed")
        jobs: list[tuple[Job, tuple[int, ...]]] = []
        for budget in budgets:
            for horizon in horizons:
                for name, contestant in contestants.items():
                    iterations = timings[name, spans[horizon]].iterations(budget / 1e3)
                    entry = Entry(name, contestant, self.where, horizon, self.objective, iterations)
                    job = partial(closed_rows, entry, spans[horizon], float(budget))
                    key = {"planner": name, "horizon": horizon, "milliseconds": float(budget)}
                    jobs += self._batches(job, _missing(table, seeds, iterations, **key))
        self._run("closed", jobs, table, len(seeds) * len(horizons) * len(contestants) * len(budgets))
        return _finished(table)

    def tune(
        self,
        names: Sequence[str],
        horizons: Sequence[int],
        seeds: Sequence[int],
        seconds: float,
        trials: int,
        reported: Iterable[int],
        proposals: bool = True,
    ) -> dict[str, Any]:
        """Try hyperparameters of every planner on the same goals within the same time; write tuning.json.

        The chosen settings have the most successes, under the model and in the environment together; ties go to the
        lower mean cost. Settings whose first iteration comes after the time limit are not chosen.

        Args:
            names: the planners.
            horizons: H.
            seeds: goals to tune on.
            seconds: time limit of a plan.
            trials: settings tried per planner, its defaults included.
            reported: goals of the other stages.
            proposals: whether the model's proposals are offered.

        Returns:
            The content of tuning.json.

        Raises:
            ValueError: a goal to tune on is one of the reported ones; else as `open_loop` and `draw_trials`.
        """
        if common := set(seeds) & set(reported):
            raise ValueError(
                "tune: expected goals that the other stages do not report, got some that they do"
                f" ({min(common)} to {max(common)}); try another --tune-seed"
            )
        drawn = {name: draw_trials(name, self.world_model, trials) for name in names}
        contestants = {
            f"{name} {i}": planners([name], self.world_model, {name: settings}, proposals)[name]
            for name, all_settings in drawn.items()
            for i, settings in enumerate(all_settings)
        }
        rows = self.open_loop(contestants, horizons, seeds, seconds, stage="tune")
        content: dict[str, Any] = {
            "seconds": seconds,
            "horizons": list(horizons),
            "seeds": [min(seeds), max(seeds)],
            "planners": {},
        }
        wanted = set(seeds)
        for name, all_settings in drawn.items():
            outcomes: list[dict[str, Any]] = []
            for i, settings in enumerate(all_settings):
                mine = [r for r in rows if r.planner == f"{name} {i}" and r.horizon in horizons and r.goal in wanted]
                outcomes.append(
                    {
                        "settings": settings,
                        "goals": len(mine),
                        "model_success": sum(row.model_success for row in mine),
                        "real_success": sum(row.real_success for row in mine),
                        "mean_cost": float(np.mean([row.cost for row in mine])),
                        "in_time": all(row.points()[-1][1] <= seconds for row in mine),
                    }
                )
            best = max(outcomes, key=lambda o: (o["in_time"], o["model_success"] + o["real_success"], -o["mean_cost"]))
            space = {field: list(values) for field, values in SPACES[name].items()}
            content["planners"][name] = {"space": space, "trials": outcomes, "chosen": best["settings"]}
        write_text(self.out / TUNING_NAME, json.dumps(content, indent=2, default=asdict) + "\n")
        return content

    # ----- how they run -------------------------------------------------------------------------------------

    def _table(
        self, stage: str, kind: type[Row], contestants: Mapping[str, Contestant], common: Mapping[str, Any]
    ) -> Records[Row]:
        """The stage's rows in the folder, with all that determines them."""
        self.out.mkdir(parents=True, exist_ok=True)
        described = {name: describe(contestant) for name, contestant in contestants.items()}
        where = {"environment": self.where.env_id, "env_kwargs": dict(self.where.env_kwargs), "model": self.digest}
        shared = {"threshold": self.threshold, "batch": self.batch}
        settings = {**where, **shared, **common, "contestants": described}
        return Records(self.out, stage, kind, settings, ["contestants"], misfit, key=lambda row: row.key)

    def _batches(self, job: Job, seeds: Sequence[int]) -> Iterator[tuple[Job, tuple[int, ...]]]:
        for start in range(0, len(seeds), self.batch):
            yield job, tuple(seeds[start : start + self.batch])

    def _calibrated(
        self, contestants: Mapping[str, Contestant], horizons: Sequence[int], warm: bool, limit: float, label: str
    ) -> dict[tuple[str, int], Timing]:
        """Timings by name and horizon: those noted in the folder, and measurements of the others."""
        path = self.out / CALIBRATION_NAME
        noted = read_timings(path)

        def key(name: str, horizon: int) -> str:
            what = {"horizon": horizon, "warm": warm, "limit": min(limit, LONGEST), "model": self.digest}
            return json.dumps({**what, **describe(contestants[name])}, sort_keys=True)

        for horizon in horizons:
            missing = {name: c for name, c in contestants.items() if key(name, horizon) not in noted}
            if not missing:
                continue
            with progress_bar(self.progress) as bar:
                task = bar.add_task(f"{label}: timing, {horizon} steps", total=(1 + ROUNDS) * len(missing))
                found = calibrate(
                    missing, self.where, self.world_model, [horizon], warm, limit, partial(bar.advance, task)
                )
            noted |= {key(name, at): timing for (name, at), timing in found.items()}
            write_timings(path, noted)
        return {(n, h): noted[key(n, h)] for n in contestants for h in horizons}

    def _run(self, label: str, jobs: Sequence[tuple[Job, tuple[int, ...]]], table: Records[Any], total: int) -> None:
        """Compute batches and note their rows as they come."""
        with progress_bar(self.progress) as bar:
            task = bar.add_task(label, total=total, completed=total - sum(len(seeds) for _, seeds in jobs))
            for rows in self._computed(jobs):
                table.append(rows)
                bar.update(task, advance=len(rows))

    def _computed(self, jobs: Sequence[tuple[Job, tuple[int, ...]]]) -> Iterator[list[Any]]:
        if min(self.workers, len(jobs)) <= 1:
            for job, seeds in jobs:
                with computing_alone():
                    rows = job(world_model=self.world_model, seeds=seeds)
                yield rows
            return
        workers = min(self.workers, len(jobs))
        yield from in_processes(_compute, jobs, workers, "bench", _enter_worker, (self.model,))


def _missing(table: Records[Any], seeds: Sequence[int], iterations: int, **belongs: Any) -> list[int]:
    """Those of the goals that have no row yet among the rows whose fields are as given.

    Raises:
        ValueError: such rows are there, made with another number of iterations.
    """
    other = next((row for row in table.where(**belongs) if row.iterations != iterations), None)
    if other is not None:
        raise ValueError(
            f"{table.csv}: expected {iterations} iterations of {other.planner} as now measured, got rows with"
            f" {other.iterations}; use another --out, or remove this one"
        )
    return table.missing("goal", seeds, **belongs)


def _finished(table: Records[Row]) -> list[Row]:
    """All rows, in the order of time limits, horizons, contestants and goals."""
    order = list(table.settings["contestants"])
    return table.finish(lambda row: (row.limit, row.horizon, order.index(row.planner), row.goal))


_worker_model: SavedModel


def _enter_worker(model: str) -> None:
    global _worker_model
    compute_alone()
    _worker_model = load_world_model(model)


def _compute(job: Job, seeds: tuple[int, ...]) -> list[Any]:
    return job(world_model=_worker_model, seeds=seeds)
