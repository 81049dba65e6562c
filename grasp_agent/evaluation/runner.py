"""Running entrants side by side on the same seeded episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from numbers import Number
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_agent.evaluation.entrants import Entrant, make_entrants
from grasp_agent.evaluation.results import EpisodeResult, Results, ResultsFolder

_STATES = ("state", "goal_state")


def evaluate(
    entrants: Mapping[str, Any] | Sequence[str],
    env_id: str,
    seeds: Sequence[int],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Results:
    """Let every entrant play the same seeded episodes and compare them.

    Each entrant gets its own environment with the observation it needs (an agent pixels of its world model's
    size, a saved policy the observation it was trained on); reset with the same seed, they start the same
    episode, which is verified. Episodes run one after the other in this process, the entrants taking turns.

    Args:
        entrants: name to participant; the first is the one the others are compared to. See `make_entrants`.
        env_id: a Gymnasium environment that reports `info["is_success"]`.
        seeds: one episode each; all different.
        env_kwargs: arguments of the environment that everyone gets, e.g. {"goal_horizon": 25}.
        out: folder for results.csv and results.json; a killed run with the same settings goes on where it
            stopped.
        progress: show a progress bar on the standard error stream.

    Returns:
        Rows and summary.

    Raises:
        ValueError, TypeError: bad entrants, environment, seeds or folder; entrants that would play different
            episodes.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds: expected one or more different non-negative integers, got {seeds[:10]}")
    participants = make_entrants(entrants)
    common = dict(env_kwargs or {})
    with ExitStack() as stack:
        envs: dict[str, gym.Env[Any, Any]] = {}
        described: dict[str, Any] = {}
        for name, entrant in participants.items():
            envs[name], used = entrant.open(env_id, common)
            stack.callback(envs[name].close)
            described[name] = {**entrant.describe(), "env_kwargs": used}
        settings = {"environment": env_id, "env_kwargs": common, "seeds": seeds, "entrants": described}
        folder = None if out is None else ResultsFolder(out, settings)
        rows = [] if folder is None else list(folder.rows)
        played = {(row.entrant, row.episode) for row in rows}
        with _progress_bar(progress) as bar:
            task = bar.add_task("evaluating", total=len(seeds) * len(participants), completed=len(rows))
            for episode, seed in enumerate(seeds):
                missing = [name for name in participants if (name, episode) not in played]
                same = SameEpisode()
                if missing and len(missing) < len(participants):
                    # Resuming within an episode: learn which one the others played.
                    same.check(next(iter(participants)), envs[next(iter(participants))].reset(seed=seed)[1])
                for name in missing:
                    bar.update(task, description=name)
                    row = run_episode(name, participants[name], envs[name], episode, seed, same.check)
                    rows.append(row)
                    if folder is not None:
                        folder.append(row)
                    bar.advance(task)
    order = {name: index for index, name in enumerate(participants)}
    results = Results(settings, tuple(sorted(rows, key=lambda row: (row.episode, order[row.entrant]))))
    if folder is not None:
        folder.finish(results)
    return results


def run_episode(
    name: str,
    entrant: Entrant,
    env: gym.Env[Any, Any],
    episode: int,
    seed: int,
    on_reset: Callable[[str, Mapping[str, Any]], None] | None = None,
    on_step: Callable[[int, bool, Any], None] | None = None,
) -> EpisodeResult:
    """Play one episode.

    Args:
        name: the entrant's name.
        entrant: who plays.
        env: its environment.
        episode: index of the episode, for the row.
        seed: what the environment is reset with.
        on_reset: called with the name and the reset's info.
        on_step: called after the reset (step 0) and after every step with the step, whether the task is
            solved in it, and the observation.

    Raises:
        ValueError: the environment does not report `info["is_success"]`.
    """
    observation, info = env.reset(seed=seed)
    if on_reset is not None:
        on_reset(name, info)
    if on_step is not None:
        on_step(0, bool(info.get("is_success", False)), observation)
    entrant.begin(env, seed, observation, info)
    coverage = [float(info["coverage"])] if "coverage" in info else []
    total, step, first_success, solved = 0.0, 0, None, False
    latencies: list[float] = []
    finished = False
    while not finished:
        started = time.perf_counter()
        action = entrant.act(observation)
        latencies.append(1000 * (time.perf_counter() - started))
        observation, reward, terminated, truncated, info = env.step(action)
        if "is_success" not in info:
            raise ValueError("environment: expected info['is_success'] after a step, got none; evaluate needs it")
        step += 1
        total += float(reward)
        solved = bool(info["is_success"])
        if solved and first_success is None:
            first_success = step
        if "coverage" in info:
            coverage.append(float(info["coverage"]))
        if on_step is not None:
            on_step(step, solved, observation)
        finished = bool(terminated or truncated)
    return EpisodeResult(
        entrant=name,
        episode=episode,
        seed=seed,
        success=int(first_success is not None),
        success_final=int(solved),
        total_return=total,
        best_coverage=max(coverage) if coverage else None,
        steps=step,
        steps_to_success=first_success,
        latency_p50_ms=float(np.percentile(latencies, 50)),
        latency_p95_ms=float(np.percentile(latencies, 95)),
    )


class SameEpisode:
    """Makes sure that everyone starts the same episode, as far as the environment's reset info tells."""

    def __init__(self) -> None:
        self._first: tuple[str, dict[str, Any]] | None = None

    def check(self, name: str, info: Mapping[str, Any]) -> None:
        """Compare an entrant's reset info with the first one's: states and single numbers (errors to the
        goal).

        Raises:
            ValueError: they differ.
        """
        facts = {key: value for key, value in info.items() if key in _STATES or isinstance(value, Number)}
        if self._first is None:
            self._first = (name, facts)
            return
        first, expected = self._first
        for key in facts.keys() & expected.keys():
            if not np.allclose(facts[key], expected[key], rtol=0, atol=1e-9, equal_nan=True):
                raise ValueError(
                    f"entrants {first!r} and {name!r}: expected the same episode from the same seed, got a"
                    f" different {key!r} ({expected[key]} and {facts[key]})"
                )


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
