"""Episodes side by side: the only loop that steps environments.

A policy decides for all running episodes at once, which for a planner costs little more than deciding for one. An
episode that ends makes room for the next one; when none is left, the batch becomes smaller. What a row does depends
neither on its neighbours nor on the episodes before it, but for rounding: sums in batches of other sizes are taken in
another order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym


@dataclass(frozen=True)
class Episode:
    """An episode to be played.

    Attributes:
        index: its number, by which its time steps are told from others'.
        seed: what the environment is reset with.
        policy_seed: what the policy draws its own randomness from.
    """

    index: int
    seed: int
    policy_seed: int


@dataclass(frozen=True)
class TimeStep:
    """One observation of an episode, and how it came about.

    Attributes:
        episode: which one.
        env: its environment, as it is now: to be rendered or asked for its state before the next time step is drawn.
        number: environment steps since the reset, after which it is 0.
        action: what was executed; None after the reset.
        observation: what the environment shows now.
        reward: of the step; 0 after the reset.
        info: what the environment says besides.
        seconds: that the decision took, of the whole batch that was decided for; 0 after the reset.
        last: whether the episode ends here.
        terminated: whether the environment ended it here, other than by a time limit.
    """

    episode: Episode
    env: gym.Env[Any, Any]
    number: int
    action: Any
    observation: Any
    reward: float
    info: Mapping[str, Any]
    seconds: float
    last: bool
    terminated: bool = False


class VectorPolicy(Protocol):
    """Decides for several episodes at once. Each has a slot, a number that stays the same until it ends."""

    def begin(self, slot: int, first: TimeStep) -> None:
        """A new episode begins in a slot."""
        ...

    def act(self, slots: Sequence[int], observations: Sequence[Any]) -> Sequence[Any]:
        """Choose an action for each of the slots, in ascending order; slots that are not named will not return."""
        ...


def play(
    policy: VectorPolicy,
    envs: Sequence[gym.Env[Any, Any]],
    episodes: Iterable[Episode],
    *,
    step_limit: int | None = None,
    until: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Iterator[TimeStep]:
    """Play episodes, each in one of the environments, as many at once as there are environments.

    Args:
        policy: who plays.
        envs: equal ones.
        episodes: each begins as soon as an environment is free.
        step_limit: ends an episode after so many steps; None leaves it to the environment.
        until: ends an episode when it holds for a step's `info`, besides.

    Yields:
        Every time step of every episode: an episode's own in order, those of different episodes intermingled.
    """
    waiting = iter(episodes)
    running: dict[int, TimeStep] = {}

    def begin(slot: int) -> Iterator[TimeStep]:
        running.pop(slot, None)
        for episode in waiting:
            observation, info = envs[slot].reset(seed=episode.seed)
            running[slot] = TimeStep(episode, envs[slot], 0, None, observation, 0.0, info, 0.0, False)
            policy.begin(slot, running[slot])
            yield running[slot]
            return

    for slot in range(len(envs)):
        yield from begin(slot)
    while running:
        slots = sorted(running)
        started = time.perf_counter()
        actions = policy.act(slots, [running[slot].observation for slot in slots])
        seconds = time.perf_counter() - started
        for slot, action in zip(slots, actions, strict=True):
            before = running[slot]
            observation, reward, terminated, truncated, info = before.env.step(action)
            number = before.number + 1
            last = bool(terminated or truncated) or number == step_limit or (until is not None and until(info))
            running[slot] = TimeStep(
                before.episode,
                before.env,
                number,
                action,
                observation,
                float(reward),
                info,
                seconds,
                last,
                bool(terminated),
            )
            yield running[slot]
            if last:
                yield from begin(slot)
