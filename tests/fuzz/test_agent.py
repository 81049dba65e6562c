"""The agent: settings, observations, goals and memories of every kind act or are refused in one sentence."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
from closed_loop import SQUARE, make_agent
from dot_world import SIDE, DotModel, draw
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from odd_models import Integrator
from odd_values import ODD, SEEDS, answered, examples

from grasp_agent import GRASPAgent, load_world_model
from grasp_agent.agent.agent import MPCAgent
from grasp_agent.agent.state import AgentState
from grasp_agent.core.types import Budget
from grasp_agent.planning import CEM, MultiStart
from grasp_agent.rollouts.environments import make_env

SETTINGS = [name for name in inspect.signature(MPCAgent).parameters if name not in ("world_model", "action_space")]
QUICK: dict[str, Any] = {"planner": MultiStart(CEM(8, 4), 2, 1), "horizon": 3, "budget": Budget(1)}
POINT = {"observation": np.array([0.1, 0.2]), "desired_goal": np.zeros(2)}
PICTURE = {"pixels": draw(np.zeros(2)), "goal": draw(np.ones(2))}


def check_action(agent: MPCAgent, actions: np.ndarray, batch: int | None = None) -> None:
    """Finite, of the declared shape and inside the declared space."""
    rows = actions[None] if batch is None else actions
    assert rows.shape == (batch or 1, *agent.action_space.shape)
    assert all(agent.action_space.contains(row) for row in rows), actions


@examples(150)
@given(st.dictionaries(st.sampled_from(SETTINGS), SEEDS, min_size=1, max_size=2))
def test_every_setting(options: dict[str, Any]) -> None:
    agent = answered(lambda: MPCAgent(DotModel(pixels=False), SQUARE, **{**QUICK, **options}))
    if agent is not None:
        check_action(agent, agent.act(POINT))


class OddModel(DotModel):
    """A model with an odd attribute."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__(pixels=False)
        setattr(self, name, value)


@examples(80)
@given(ODD, st.sampled_from(["state_shape", "history", "action_dim", "action_block"]), ODD)
def test_every_model(model: Any, name: str, value: Any) -> None:
    answered(lambda: MPCAgent(model, SQUARE, **QUICK))
    answered(lambda: GRASPAgent(model, SQUARE))
    agent = answered(lambda: MPCAgent(OddModel(name, value), SQUARE, **QUICK))
    if agent is not None:
        answered(lambda: check_action(agent, agent.act(POINT)))


@examples(40)
@given(ODD, ODD)
def test_every_name_of_a_model(name: Any, device: Any) -> None:
    errors = (ValueError, TypeError, FileNotFoundError, ImportError)
    answered(lambda: load_world_model(name), *errors)
    answered(lambda: load_world_model("pusht", device), *errors)


def bounds(low: Any, high: Any) -> spaces.Box | None:
    try:
        return spaces.Box(*sorted((low, high)), (2,), np.float32)
    except (ValueError, OverflowError):
        return None


BOXES = st.builds(bounds, st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
SPACES = st.sampled_from(
    [
        spaces.Box(-1, 1, (1, 2)),
        spaces.Box(0, 9, (2,), np.int64),
        spaces.Box(-1, 1, (3,)),
        spaces.Box(-1, 1, (0,)),
        spaces.Box(np.array([-np.inf, 0]), np.array([0, 1]), dtype=np.float64),
        spaces.Discrete(2),
        spaces.Discrete(2, start=-3),
        spaces.MultiBinary(1),
        spaces.MultiDiscrete([1, 1]),
        spaces.MultiDiscrete([[1], [1]]),
        spaces.Dict({"a": SQUARE}),
        spaces.Tuple((SQUARE,)),
        spaces.Text(3),
        spaces.Box,
    ]
)


@examples(150)
@given(ODD | BOXES | SPACES)
def test_every_action_space(space: Any) -> None:
    agent = answered(lambda: MPCAgent(DotModel(pixels=False), space, **QUICK))
    if agent is not None:
        for _ in range(2):
            action = agent.act(POINT)
            assert agent.action_space.contains(action.item() if action.shape == () else action)


DTYPES = st.sampled_from(["f2", "f4", "f8", ">f8", "g", "i1", "u8", ">i4", "?", "c8", "U3", "M8[s]", "O", "V4"])
SHAPES = st.sampled_from([(2,), (1, 2), (3, 2), (0, 2), (2, 0), (3,), (), (1, 1, 2), (SIDE, SIDE, 3), (3, SIDE, SIDE)])


def filled(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    if dtype in ("O", "V4", "M8[s]"):
        return st.just(np.zeros(shape, dtype))
    return arrays.arrays(dtype, shape, elements=arrays.from_dtype(np.dtype(dtype)))


VECTORS = st.tuples(DTYPES, SHAPES.filter(lambda shape: SIDE not in shape)).flatmap(lambda pair: filled(*pair))
PICTURES = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.sampled_from(
        [(SIDE, SIDE, 3), (3, SIDE, SIDE), (2, SIDE, SIDE, 3), (0, SIDE, SIDE, 3), (SIDE, SIDE), (8, 8, 3)]
    ),
    st.sampled_from([np.uint8, np.int64, np.float32, bool]),
    st.sampled_from([1, 200]),
)
ANYTHING = ODD | VECTORS | PICTURES
KEYS = st.sampled_from(["observation", "state", "pixels", "image", "desired_goal", "goal", "achieved_goal", "x", 5])
OBSERVATIONS = ANYTHING | st.dictionaries(KEYS, ANYTHING, max_size=4)


@examples(400)
@given(st.booleans(), OBSERVATIONS, st.none() | ANYTHING, SEEDS)
def test_every_observation_and_goal(pixels: bool, observation: Any, goal: Any, seed: Any) -> None:
    agent = MPCAgent(DotModel(pixels=pixels), SQUARE, **QUICK)
    answered(lambda: agent.reset(goal=goal, seed=seed))
    answered(lambda: agent.problem(observation, seed))
    for _ in range(2):
        chosen = answered(lambda: agent.predict(observation))
        if chosen is not None:
            check_action(agent, chosen[0], len(chosen[0]) if chosen[0].ndim == 2 else None)


@examples(60)
@given(st.dictionaries(st.sampled_from([*POINT, "achieved_goal"]), ANYTHING, min_size=1), ODD)
def test_an_episode_with_an_odd_observation_in_it(odd: dict[str, Any], flags: Any) -> None:
    """What is refused changes nothing: the episode goes on as if nobody had asked."""
    agent, other = make_agent(DotModel(pixels=False), **QUICK), make_agent(DotModel(pixels=False), **QUICK)
    for asked in (agent, other):
        asked.act(POINT)
    if answered(lambda: agent.act({**POINT, **odd})) is None:
        np.testing.assert_array_equal(agent.act(POINT), other.act(POINT))
    chosen = answered(lambda: other.predict(POINT, None, flags))
    if chosen is not None:
        check_action(other, chosen[0])


def memory(model: Any, space: spaces.Space[Any] = SQUARE, **options: Any) -> AgentState:
    """What an agent remembers after two decisions."""
    agent = MPCAgent(model, space, **{**QUICK, **options})
    state = None
    for _ in range(2):
        _, state = agent.predict(POINT, state)
    assert state is not None
    return state


MEMORIES = st.sampled_from(
    [
        memory(DotModel(pixels=False)),
        memory(DotModel(pixels=False), planner=CEM()),
        memory(DotModel(history=2, pixels=False)),
        memory(DotModel(action_block=3, pixels=False)),
        memory(DotModel(pixels=False), horizon=5),
        memory(DotModel(pixels=False).double()),
        memory(Integrator()),
        memory(DotModel(pixels=False), spaces.MultiDiscrete([1, 1])),
    ]
)


@examples(100)
@given(MEMORIES | ODD, ODD | st.lists(st.integers(-2, 2)), ODD | VECTORS)
def test_every_memory(state: Any, rows: Any, executed: Any) -> None:
    agent = MPCAgent(DotModel(pixels=False), SQUARE, **QUICK)
    chosen = answered(lambda: agent.predict(POINT, state))
    if chosen is not None:
        check_action(agent, chosen[0])
    own = memory(DotModel(pixels=False))
    answered(lambda: own.select(rows))
    corrected = answered(lambda: own.with_last_action(executed))
    if corrected is not None:
        check_action(agent, agent.predict(POINT, corrected)[0])


@examples(60)
@given(ODD | st.sampled_from(["CartPole-v1", "grasp_envs/Wall-v0", "grasp_envs:x", "nothing:y", ":", "a/b"]), ODD, ODD)
def test_every_name_of_an_environment(name: Any, side: Any, steps: Any) -> None:
    for arguments in ({}, {"rendered": side}, {"hindsight": steps}):
        env = answered(lambda: make_env(name, **arguments))  # noqa: B023
        if env is not None:
            assert isinstance(env, gym.Env)
            env.close()
