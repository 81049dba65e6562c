"""Running entrants side by side on the same seeded episodes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from grasp_agent.evaluation.policies import Entrant, make_entrants
from grasp_agent.evaluation.results import EpisodeResult, Results, ResultsFolder
from grasp_agent.rollouts.workers import in_processes, progress_bar

_STATES = ("state", "goal_state")


def evaluate(
    entrants: Mapping[str, Any] | Sequence[str],
    env_id: str,
    seeds: Sequence[int],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    workers: int = 1,
) -> Results:
    """Let every entrant play the same seeded episodes and compare them.

    Each entrant gets its own environment with the observation it needs (an agent pixels of its world model's
    size, a saved policy the observation it was trained on); reset with the same seed, they start the same
    episode, which is verified. The entrants take turns episode by episode, in this process or in several; results
    do not depend on how many, save the latencies, for which each process has a core of its own at best.

    Args:
        entrants: name to participant; the first is the one the others are compared to. See `make_entrants`.
        env_id: a Gymnasium environment that reports `info["is_success"]`.
        seeds: one episode each; all different.
        env_kwargs: arguments of the environment that everyone gets, e.g. {"goal_horizon": 25}.
        out: folder for results.csv and results.json; a killed run with the same settings goes on where it
            stopped.
        progress: show a progress bar on the standard error stream.
        workers: processes that play; with more than one, entrants travel there pickled, and each process computes
            with one thread.

    Returns:
        Rows and summary.

    Raises:
        ValueError, TypeError: bad entrants, environment, seeds or folder; entrants that would play different
            episodes; entrants that cannot be pickled, with several workers.
        RuntimeError: a worker process was killed.
    """
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds: expected one or more different non-negative integers, got {seeds[:10]}")
    participants = make_entrants(entrants)
    common = dict(env_kwargs or {})
    with _Match(participants, env_id, common) as match:
        settings = {"environment": env_id, "env_kwargs": common, "seeds": seeds, "entrants": match.described}
        folder = None if out is None else ResultsFolder(out, settings)
        rows = [] if folder is None else list(folder.rows)
        played = {(row.entrant, row.episode) for row in rows}
        open_games = [
            (episode, seed, missing)
            for episode, seed in enumerate(seeds)
            if (missing := [name for name in participants if (name, episode) not in played])
        ]
        with progress_bar(progress) as bar:
            task = bar.add_task("evaluating", total=len(seeds) * len(participants), completed=len(rows))
            for row in _play_all(match, open_games, min(workers, len(open_games))):
                rows.append(row)
                if folder is not None:
                    folder.append(row)
                bar.update(task, description=row.entrant, advance=1)
    order = {name: index for index, name in enumerate(participants)}
    results = Results(settings, tuple(sorted(rows, key=lambda row: (row.episode, order[row.entrant]))))
    if folder is not None:
        folder.finish(results)
    return results


Game = tuple[int, int, list[str]]
"""An episode's index, its seed, and who has yet to play it."""


class _Match:
    """Participants with their open environments."""

    def __init__(self, participants: Mapping[str, Entrant], env_id: str, common: Mapping[str, Any]) -> None:
        self.participants, self.env_id, self.common = dict(participants), env_id, dict(common)
        self.envs: dict[str, gym.Env[Any, Any]] = {}
        self.described: dict[str, Any] = {}

    def __enter__(self) -> _Match:
        try:
            for name, entrant in self.participants.items():
                self.envs[name], used = entrant.open(self.env_id, self.common)
                self.described[name] = {**entrant.describe(), "env_kwargs": used}
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for env in self.envs.values():
            env.close()

    def play(self, game: Game) -> Iterator[EpisodeResult]:
        """Let those who have yet to play an episode play it."""
        episode, seed, missing = game
        same = SameEpisode()
        if len(missing) < len(self.participants):
            # Resuming within an episode: learn which one the others played.
            first = next(iter(self.participants))
            same.check(first, self.envs[first].reset(seed=seed)[1])
        for name in missing:
            yield run_episode(name, self.participants[name], self.envs[name], episode, seed, same.check)


def _play_all(match: _Match, games: Sequence[Game], workers: int) -> Iterator[EpisodeResult]:
    """Play the games, here or in `workers` processes; rows come as they are ready."""
    if workers <= 1:
        for game in games:
            yield from match.play(game)
        return
    arguments = (match.participants, match.env_id, match.common)
    try:
        pickle.dumps(arguments)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"entrants: expected ones that can be sent to worker processes, got one that cannot be pickled ({error});"
            " try workers=1"
        ) from None
    jobs = [(game,) for game in games]
    for rows in in_processes(_play_in_worker, jobs, workers, "evaluate", _enter_worker, arguments):
        yield from rows


_worker_match: _Match | Exception


def _enter_worker(participants: Mapping[str, Entrant], env_id: str, common: Mapping[str, Any]) -> None:
    global _worker_match
    torch.set_num_threads(1)
    try:
        _worker_match = _Match(participants, env_id, common).__enter__()
    except (ValueError, TypeError) as error:  # raised here it would only break the pool
        _worker_match = error


def _play_in_worker(game: Game) -> list[EpisodeResult]:
    if isinstance(_worker_match, Exception):
        raise _worker_match
    return list(_worker_match.play(game))


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
