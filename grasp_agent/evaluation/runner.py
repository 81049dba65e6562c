"""Running entrants side by side on the same seeded episodes."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from grasp_agent.evaluation.policies import AgentEntrant, Entrant, ReferenceEntrant, make_entrants
from grasp_agent.evaluation.results import EpisodeResult, Results, misfit
from grasp_agent.evaluation.scoring import SameEpisodes, Scorer
from grasp_agent.files.lock import locked
from grasp_agent.files.progress import progress_bar
from grasp_agent.files.records import Records, as_columns
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.rollouts.workers import in_processes, one_thread
from grasp_agent.tasks import task_for

STAGE = "results"
"""Names the files of an evaluation: results.csv, results.json."""

ROUNDS = 3
"""Episodes per slot in a job of several slots: enough that slots are used again when episodes end early, few enough
that little is lost when a run is stopped."""


def evaluate(
    entrants: Mapping[str, Any] | Sequence[str],
    env_id: str,
    seeds: Sequence[int],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    workers: int = 1,
    batch: int = 1,
    trust: bool = False,
) -> Results:
    """Let every entrant play the same seeded episodes and compare them.

    Each entrant gets its own environments with the observation it needs (an agent pictures of its world model's
    size, a saved policy the observation it was trained on); reset with the same seed, they start the same
    episode, which is verified. The entrants take turns, in this process or in several. With batch 1 results do not
    depend on how many processes of one thread there are, save the latencies, for which each has a core of its own at
    best. On the batch and on the number of threads they depend by rounding: an agent's actions differ by about 3e-6.

    Args:
        entrants: name to participant; the others are compared to the first, or to the first of the folder. See
            `make_entrants`.
        env_id: a Gymnasium environment that reports success, see `grasp_agent.tasks`.
        seeds: one episode each; all different.
        env_kwargs: arguments of the environment that everyone gets, e.g. {"goal_horizon": 25}.
        out: folder for results.csv and results.json; a killed run with the same settings goes on where it stopped.
            Further entrants, and further seeds behind those that were played, are added to what it holds.
        progress: show a progress bar on the standard error stream.
        workers: processes that play; with more than one, entrants travel there pickled, and each process computes
            with one thread.
        batch: episodes that an agent plans for side by side, which takes less time in all; latencies are then those
            of a whole batch's decision.
        trust: load stable-baselines3 .zip files that do not ship with this package, which can run any code.

    Returns:
        Rows and summary.

    Raises:
        ValueError, TypeError: bad entrants, environment, seeds or folder; an entrant of the folder has more to play and
            is not named; entrants that would play different episodes; entrants that cannot be pickled, with several
            workers; a budget in seconds for a batch.
        RuntimeError: a worker process was killed, or another run writes to the folder.
    """
    for name, number in (("workers", workers), ("batch", batch)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds: expected one or more different non-negative integers, got {seeds[:10]}")
    participants = make_entrants(entrants, trust=trust)
    if batch > 1:
        _refuse_seconds(participants, batch)
    names, common = list(participants), dict(env_kwargs or {})
    with ExitStack() as stack:
        match = stack.enter_context(_Match(participants, env_id, common, min(batch, len(seeds))))
        settings: dict[str, Any] = {
            "environment": env_id,
            "env_kwargs": common,
            "seeds": seeds,
            "batch": batch,
            "threads": _threads(participants, workers),
            "entrants": match.described,
        }
        records = None
        rows: list[EpisodeResult] = []
        if out is not None:
            folder = stack.enter_context(locked(out))
            records = Records(
                folder, STAGE, EpisodeResult, settings, ["entrants", "seeds"], misfit, _key, _lacking(participants)
            )
            settings, rows = records.settings, list(records.rows)
        jobs = _jobs(names, seeds, rows, batch, workers)
        with progress_bar(progress) as bar:
            there = sum(row.entrant in participants for row in rows)
            task = bar.add_task("evaluating", total=len(seeds) * len(names), completed=there)
            if workers > 1:
                stack.enter_context(one_thread())  # the last job may be played here: as a worker would
            for played in _play_all(match, jobs, min(workers, len(jobs))):
                if records is not None:
                    records.append(played)
                rows += played
                bar.update(task, description=played[-1].entrant, advance=len(played))

        everyone = list(settings["entrants"])

        def order(row: EpisodeResult) -> tuple[int, int]:
            return row.episode, everyone.index(row.entrant)

        results = Results(settings, tuple(sorted(rows, key=order)))
        if records is not None:
            records.finish(order, summary=[as_columns(entrant) for entrant in results.summary()])
    return results


def _key(row: EpisodeResult) -> tuple[str, int]:
    return row.entrant, row.episode


def _lacking(named: Container[str]) -> Callable[[Sequence[EpisodeResult], Mapping[str, Any]], str | None]:
    """Refuse results that would compare some entrants on more episodes than others."""

    def lacking(rows: Sequence[EpisodeResult], settings: Mapping[str, Any]) -> str | None:
        played, wanted = Counter(row.entrant for row in rows), len(settings["seeds"])
        for name in settings["entrants"]:
            if name not in named and played[name] < wanted:
                return (
                    f"expected {name!r} among the entrants, too, which has played {played[name]} of {wanted} episodes;"
                    " name it again, or use another folder"
                )
        return None

    return lacking


def _threads(participants: Mapping[str, Entrant], workers: int) -> int | None:
    """Threads of PyTorch that every process computes with, on which sums depend; None if nobody computes."""
    if all(isinstance(entrant, ReferenceEntrant) for entrant in participants.values()):
        return None
    return 1 if workers > 1 else torch.get_num_threads()


def _refuse_seconds(participants: Mapping[str, Entrant], batch: int) -> None:
    for name, entrant in participants.items():
        if isinstance(entrant, AgentEntrant):
            budgets = (entrant.agent.budget, entrant.agent.first_budget)
            if any(budget.seconds is not None for budget in budgets):
                raise ValueError(
                    f"entrant {name!r}: expected a budget of iterations with batch {batch}, got one of seconds, which"
                    " the episodes of a batch would share; try batch 1"
                )


Job = list[tuple[Episode, list[str]]]
"""Episodes, and who has yet to play each."""


def _jobs(
    names: Sequence[str], seeds: Sequence[int], rows: Sequence[EpisodeResult], batch: int, workers: int
) -> list[Job]:
    played = set(map(_key, rows))
    to_play = [
        (Episode(index, seed, policy_seed=seed), missing)
        for index, seed in enumerate(seeds)
        if (missing := [name for name in names if (name, index) not in played])
    ]
    largest = 1 if batch == 1 else ROUNDS * batch
    size = max(1, min(largest, -(-len(to_play) // workers)))
    return [to_play[start : start + size] for start in range(0, len(to_play), size)]


class _Match:
    """Participants with their open environments, as many for each as there are slots."""

    def __init__(self, participants: Mapping[str, Entrant], env_id: str, common: Mapping[str, Any], slots: int) -> None:
        self.participants, self.env_id, self.common, self.slots = dict(participants), env_id, dict(common), slots
        self.envs: dict[str, list[gym.Env[Any, Any]]] = {}
        self.described: dict[str, Any] = {}

    def __enter__(self) -> _Match:
        try:
            for name, entrant in self.participants.items():
                env, used = entrant.open(self.env_id, self.common)
                self.envs[name] = [env]
                self.envs[name] += [make_env(self.env_id, **used) for _ in range(self.slots - 1)]
                self.described[name] = {**entrant.describe(), "env_kwargs": used}
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for env in (env for envs in self.envs.values() for env in envs):
            env.close()

    def play(self, job: Job) -> Iterator[EpisodeResult]:
        """Let those who have yet to play the episodes play them."""
        same, task = SameEpisodes(), task_for(self.env_id)
        first = next(iter(self.participants))
        for episode, missing in job:
            if len(missing) < len(self.participants):
                # Resuming within an episode: learn which one the others played.
                same.check(first, episode.index, self.envs[first][0].reset(seed=episode.seed)[1])
        for name, entrant in self.participants.items():
            scorer = Scorer(name, task)
            episodes = [episode for episode, missing in job if name in missing]
            for step in play(entrant.policy(self.env_id), self.envs[name], episodes):
                if step.number == 0:
                    same.check(name, step.episode.index, step.info)
                if result := scorer.add(step):
                    yield result


def _play_all(match: _Match, jobs: Sequence[Job], workers: int) -> Iterator[list[EpisodeResult]]:
    """Play the jobs, here or in `workers` processes; rows come as they are ready."""
    if workers <= 1:
        for job in jobs:
            for row in match.play(job):
                yield [row]
        return
    arguments = (match.participants, match.env_id, match.common, match.slots)
    try:
        pickle.dumps(arguments)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"entrants: expected ones that can be sent to worker processes, got one that cannot be pickled ({error});"
            " try workers=1"
        ) from None
    yield from in_processes(_play_in_worker, [(job,) for job in jobs], workers, "evaluate", _enter_worker, arguments)


_worker_match: _Match | Exception


def _enter_worker(*arguments: Any) -> None:
    global _worker_match
    torch.set_num_threads(1)
    try:
        _worker_match = _Match(*arguments).__enter__()
    except (ValueError, TypeError) as error:  # raised here it would only break the pool
        _worker_match = error


def _play_in_worker(job: Job) -> list[EpisodeResult]:
    if isinstance(_worker_match, Exception):
        raise _worker_match
    return list(_worker_match.play(job))
