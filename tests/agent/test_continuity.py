"""A new episode that the agent was not told of is warned of; ordinary play is not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from closed_loop import SQUARE, Script, make_agent
from dot_world import DotEnv, DotModel
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.agent.continuity import Continuity
from grasp_agent.core.types import Budget

WARNING = r"got a jump farther than any step so far, .* agent.reset\(\), or pass episode_start=True"
CORNERS = (np.array([0.9, 0.9]), np.array([-0.9, -0.9]))
"""Where episodes begin, in turn: farther from one another than any step leads."""


class CornerEnv(DotEnv):
    """Episodes begin in opposite corners, and their goals lie nearby."""

    def __init__(self, obs_type: str = "state", limit: int = 9) -> None:
        super().__init__(obs_type, limit=limit)
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.point = CORNERS[self.episode % 2].copy()
        self.goal = 0.2 * self.point
        return self._observe(), self._info()


def play(agent: MPCAgent, env: DotEnv, episodes: int, forget: bool) -> None:
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        if not forget:
            agent.reset()
        done = False
        while not done:
            observation, _, terminated, truncated, _ = env.step(agent.act(observation))
            done = terminated or truncated


def few(pixels: bool, **options: Any) -> MPCAgent:
    return make_agent(DotModel(history=2, pixels=pixels), horizon=3, budget=Budget(iterations=2), **options)


@pytest.mark.parametrize("replan_every", [1, 3])
@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_forgotten_resets_are_warned_of_once(obs_type: str, replan_every: int) -> None:
    agent = few(obs_type == "pixels", replan_every=replan_every)
    with pytest.warns(UserWarning, match=WARNING) as caught:
        play(agent, CornerEnv(obs_type, limit=10), 6, forget=True)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


@pytest.mark.parametrize("obs_type", ["state", "pixels"])
@pytest.mark.parametrize("env", [DotEnv, CornerEnv])
def test_ordinary_play_is_not_warned_of(env: type[DotEnv], obs_type: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(few(obs_type == "pixels"), env(obs_type, limit=9), 6, forget=False)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("late", [0, 1])
def test_flags_of_the_wrong_autoreset_mode_are_warned_of(mode: AutoresetMode, late: int) -> None:
    """`late` steps after `terminated | truncated` come the flags: 0 is right for same-step, 1 for next-step."""
    vec_env = SyncVectorEnv([lambda limit=limit: CornerEnv(limit=limit) for limit in (10, 14)], autoreset_mode=mode)
    agent = few(pixels=False)
    right = late == (mode is AutoresetMode.NEXT_STEP)
    observation, _ = vec_env.reset(seed=0)
    state, flags = None, [np.ones(2, bool), np.zeros(2, bool)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(45):
            actions, state = agent.predict(observation, state, flags.pop(0))
            observation, _, terminated, truncated, _ = vec_env.step(actions)
            flags = [*flags[:late], terminated | truncated]
    vec_env.close()
    assert [str(warning.category.__name__) for warning in caught] == ([] if right else ["UserWarning"])


def test_the_warning_comes_in_the_midst_of_a_plan_and_names_the_callers_line() -> None:
    agent = MPCAgent(DotModel(pixels=False), SQUARE, Script(), horizon=4, replan_every=4)
    state, point = None, np.zeros(2)
    for _ in range(22):
        action, state = agent.predict({"observation": point, "desired_goal": np.ones(2)}, state)
        point = point + 0.2 * action
    with pytest.warns(UserWarning, match=WARNING) as caught:
        agent.predict({"observation": point - 9.0, "desired_goal": np.ones(2)}, state)
    assert caught[0].filename == __file__


# ---- what counts as a jump ---------------------------------------------------------------------------------


def watched(*numbers: tuple[float, float], explained: int = 20) -> bool:
    """Whether one of these pairs (error, change) is warned of after some explained changes of 1."""
    continuity = Continuity()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for error, change in [(0.2, 1.0)] * explained + list(numbers):
            continuity.watch(np.array([error]), np.array([change]))
    return bool(caught)


def test_a_jump_is_large_and_unexplained() -> None:
    assert watched((10.0, 10.0))
    assert watched((3.0, 10.0))
    assert not watched((2.0, 10.0))  # the model has predicted most of it
    assert not watched((8.0, 8.0))  # less than three times as far as explained steps
    assert not watched((50.0, 0.5))  # the model is wrong, but nothing has jumped
    assert not watched((np.nan, np.nan))


def test_an_explained_change_widens_what_is_ordinary() -> None:
    assert not watched((0.1, 4.0), (35.0, 35.0))
    assert watched((0.1, 4.0), (37.0, 37.0))
    assert watched((5.0, 4.0), (10.0, 10.0))  # an unexplained one does not


def test_nothing_is_a_jump_before_enough_has_been_seen() -> None:
    assert not watched((99.0, 99.0), explained=19)
    assert watched((99.0, 99.0), explained=20)


def test_every_row_counts() -> None:
    continuity = Continuity()
    for _ in range(7):
        continuity.watch(np.array([0.0, 0.0, np.nan]), np.array([1.0, 2.0, np.nan]))
    continuity.watch(np.full(6, 0.1), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    with pytest.warns(UserWarning, match=WARNING):
        continuity.watch(np.array([0.0, 30.0, np.nan]), np.array([1.0, 30.0, np.nan]))
    continuity.watch(np.array([50.0]), np.array([50.0]))  # said once
