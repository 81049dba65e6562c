"""From time steps to results, and the check that everyone plays the same episodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np

from grasp_agent.evaluation.results import EpisodeResult
from grasp_agent.rollouts.vector import TimeStep
from grasp_agent.tasks import Task


class Scorer:
    """Turns an entrant's time steps into a result per episode.

    Args:
        entrant: its name.
        task: says what counts as success and progress.
    """

    def __init__(self, entrant: str, task: Task) -> None:
        self.entrant, self.task = entrant, task
        self._rewards: dict[int, list[float]] = {}
        self._solved: dict[int, list[bool | None]] = {}
        self._progress: dict[int, list[float]] = {}
        self._milliseconds: dict[int, list[float]] = {}

    def add(self, step: TimeStep) -> EpisodeResult | None:
        """Take a time step in; return the episode's result if it is the last one.

        Raises:
            ValueError: the environment does not report success, and must, or its rewards or progress are not finite.
        """
        at = step.episode.index
        progress = self.task.progress(step.info)
        for name, number in (("reward", step.reward), ("progress", progress)):
            if number is not None and not math.isfinite(number):
                raise ValueError(
                    f"{self.entrant}, seed {step.episode.seed}: expected a finite {name} from the environment, got"
                    f" {number} at step {step.number}"
                )
        if step.number == 0:
            self._rewards[at], self._solved[at], self._progress[at], self._milliseconds[at] = [], [], [], []
        else:
            self._rewards[at].append(step.reward)
            self._solved[at].append(self.task.solved(step.info))
            self._milliseconds[at].append(1000 * step.seconds)
        if progress is not None:
            self._progress[at].append(progress)
        return self._result(step) if step.last else None

    def _result(self, last: TimeStep) -> EpisodeResult:
        at = last.episode.index
        rewards, solved = self._rewards.pop(at), self._solved.pop(at)
        known = None not in solved
        progress, milliseconds = self._progress.pop(at), self._milliseconds.pop(at)
        return EpisodeResult(
            entrant=self.entrant,
            episode=at,
            seed=last.episode.seed,
            success=int(any(solved)) if known else None,
            success_final=int(bool(solved[-1])) if known else None,
            total_return=float(sum(rewards)),
            best_progress=max(progress, default=None),
            steps=last.number,
            steps_to_success=solved.index(True) + 1 if any(solved) else None,
            latency_p50_ms=float(np.percentile(milliseconds, 50)),
            latency_p95_ms=float(np.percentile(milliseconds, 95)),
        )


class SameEpisodes:
    """Makes sure that everyone starts the same episodes, as far as the environment's reset info tells."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[str, dict[str, Any]]] = {}

    def check(self, name: str, episode: int, info: Mapping[str, Any]) -> None:
        """Compare an entrant's reset info with the first one's: numbers and arrays of them, pictures left out.

        Raises:
            ValueError: they differ.
        """
        facts = dict(_numbers(info.items()))
        first, expected = self._first.setdefault(episode, (name, facts))
        for key in facts.keys() & expected.keys():
            same_form = np.shape(facts[key]) == np.shape(expected[key])
            if same_form and not np.allclose(facts[key], expected[key], rtol=0, atol=1e-9, equal_nan=True):
                raise ValueError(
                    f"entrants {first!r} and {name!r}: expected the same episode from the same seed, got a"
                    f" different {key!r} ({expected[key]} and {facts[key]})"
                )


def _numbers(info: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for key, value in info:
        if isinstance(value, Number) or (isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)):
            yield key, value
