"""Who can play in a vector rollout: planning agents in one batch, everybody else row by row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_agent.agent import AgentState, MPCAgent
from grasp_agent.agent.observations import GOAL_KEYS
from grasp_agent.rollouts.vector import Episode, TimeStep
from grasp_agent.tasks import Task

Player = Callable[[Any], Any]
"""Plays one episode: turns each observation into an action."""


class RowByRow:
    """A policy that decides for each episode by itself.

    Args:
        make_player: makes the player of an episode, given its first time step.
    """

    def __init__(self, make_player: Callable[[TimeStep], Player]) -> None:
        self.make_player = make_player
        self._players: dict[int, Player] = {}

    def begin(self, slot: int, first: TimeStep) -> None:
        self._players[slot] = self.make_player(first)

    def act(self, slots: Sequence[int], observations: Sequence[Any]) -> list[Any]:
        return [self._players[slot](observation) for slot, observation in zip(slots, observations, strict=True)]


class AgentPolicy:
    """An `MPCAgent`, which plans for all episodes in one batch.

    Where observations hold no goal, the agent is told the one that the reset's `info` announces: it is the task, not
    the simulator's state.

    Args:
        agent: who plans.
        task: where pictures and goals are found.
        noise: makes an episode's exploration noise, one array of an action's shape per step, which is added to the
            chosen actions within their bounds; the agent remembers what was executed.
    """

    def __init__(
        self, agent: MPCAgent, task: Task, noise: Callable[[Episode], Iterator[NDArray[Any]]] | None = None
    ) -> None:
        self.agent, self.task, self.noise = agent, task, noise
        self._slots: list[int] = []
        self._state: AgentState | None = None
        self._fresh: set[int] = set()
        self._goals: dict[int, Any] = {}
        self._noises: dict[int, Iterator[NDArray[Any]]] = {}

    def begin(self, slot: int, first: TimeStep) -> None:
        self.agent.reset()  # a goal that it was given before would take precedence
        self._fresh.add(slot)
        self._goals[slot] = announced_goal(self.task, first.observation, first.info)
        if self.noise is not None:
            self._noises[slot] = self.noise(first.episode)

    def act(self, slots: Sequence[int], observations: Sequence[Any]) -> list[NDArray[Any]]:
        state = self._state
        if self._fresh.issuperset(slots):
            state = None
        elif state is not None and list(slots) != self._slots:
            state = state.select([self._slots.index(slot) for slot in slots])
        seen = [
            as_agents_see(self.task, observation, self._goals[slot])
            for slot, observation in zip(slots, observations, strict=True)
        ]
        batch = {key: np.stack([one[key] for one in seen]) for key in seen[0]}
        actions, state = self.agent.predict(batch, state, np.array([slot in self._fresh for slot in slots]))
        if self.noise is not None:
            space = self.agent.action_space
            assert isinstance(space, spaces.Box)
            noisy = actions + np.stack([next(self._noises[slot]) for slot in slots])
            actions = np.clip(noisy, space.low, space.high).astype(space.dtype)
            state = state.with_last_action(actions)
        self._slots, self._state = list(slots), state
        self._fresh.clear()
        return list(actions)


def as_agents_see(task: Task, observation: Any, goal: Any) -> dict[str, Any]:
    """An observation under the names that agents know.

    Args:
        task: where pictures and goals are found.
        observation: as the environment shows it.
        goal: one that observations do not hold, or None.
    """
    seen = dict(observation) if isinstance(observation, Mapping) else {"observation": observation}
    for name, key in (("pixels", task.picture_key), ("goal", task.goal_key)):
        if key in seen:
            seen[name] = seen[key]
    return seen if goal is None else {**seen, "goal": goal}


def announced_goal(task: Task, observation: Any, info: Mapping[str, Any]) -> Any:
    """The goal that a reset's `info` announces where the observation holds none, else None."""
    shown = isinstance(observation, Mapping) and any(key in observation for key in (task.goal_key, *GOAL_KEYS))
    return None if shown else task.goal(None, info)


def predicting(policy: Any) -> RowByRow:
    """Any object with stable-baselines3's `predict`, recurrent ones included; deterministic."""

    def make_player(first: TimeStep) -> Player:
        memory: Any = None
        start = True

        def act(observation: Any) -> Any:
            nonlocal memory, start
            action, memory = policy.predict(
                observation, state=memory, episode_start=np.array([start]), deterministic=True
            )
            start = False
            return action

        return act

    return RowByRow(make_player)


def following(plans: Sequence[Sequence[Any]]) -> RowByRow:
    """Carries out plans made before, one for each episode by its index, without looking."""

    def make_player(first: TimeStep) -> Player:
        actions = iter(plans[first.episode.index])
        return lambda observation: next(actions)

    return RowByRow(make_player)


def random_policy() -> RowByRow:
    """Uniformly random actions."""

    def make_player(first: TimeStep) -> Player:
        space = copy.deepcopy(first.env.action_space)
        space.seed(first.episode.policy_seed)
        return lambda observation: space.sample()

    return RowByRow(make_player)


def zero_policy() -> RowByRow:
    """The zero action (the nearest to it within the bounds) at every step: what happens if nobody acts.

    With absolute control zero is a place, not rest: use it with relative actions.
    """

    def make_player(first: TimeStep) -> Player:
        space = box_actions("zero actions", first.env)
        action = np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
        return lambda observation: action.copy()

    return RowByRow(make_player)


def expert_policy(**options: Any) -> RowByRow:
    """The environment's own scripted expert, which reads the simulator.

    Args:
        options: further arguments of the environment's `make_expert`.
    """

    def make_player(first: TimeStep) -> Player:
        expert = check_expert(first.env, **options).make_expert(first.episode.policy_seed, **options)
        return lambda observation: expert.act()

    return RowByRow(make_player)


def box_actions(who: str, env: gym.Env[Any, Any]) -> spaces.Box:
    """The environment's action space, for those who need a Box.

    Raises:
        TypeError: it is another space.
    """
    if not isinstance(env.action_space, spaces.Box):
        raise TypeError(f"{who}: expected a Box action space, got {env.action_space}")
    return env.action_space


def check_expert(env: gym.Env[Any, Any], **options: Any) -> Any:
    """The innermost environment, if it has an expert.

    Args:
        env: the environment.
        options: further arguments that its `make_expert` shall take.

    Raises:
        ValueError: it has none, or one that does not take these arguments.
    """
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    make_expert = getattr(env.unwrapped, "make_expert", None)
    if make_expert is None:
        raise ValueError(f"{name}: has no scripted expert (make_expert); try policy 'random'")
    takes = inspect.signature(make_expert).parameters.keys()
    if lacking := options.keys() - takes:
        raise ValueError(
            f"{name}: expected a scripted expert that takes {', '.join(sorted(lacking))}, got one whose make_expert"
            f" takes {', '.join(takes)}; try policy 'random'"
        )
    return env.unwrapped
