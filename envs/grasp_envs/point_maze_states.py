"""What point mazes ask of states and goals and tell of them, whichever simulates the ball: this package or MuJoCo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_envs.point_maze_simulation import MAX_SPEED, Array
from grasp_envs.validation import as_numbers, options_of

OBS_TYPES = ("state", "pixels")
REWARD_TYPES = ("sparse", "dense")
SUCCESS_DISTANCE = 0.45

MOST_SUBSTEPS = 1000
"""Of a step, 10 s: longer ones would look as if they hung."""

CheckPlace = Callable[[str, Array], Array]
"""Takes a name and numbers that begin with x, y, and returns them; ValueError where the ball does not fit in."""


def check_state(state: Any, check_place: CheckPlace, unit: str) -> Array:
    """A state [4], at rest if `state` has 2 numbers; ValueError as `set_state` of the environments says.

    Args:
        state: x, y, and optionally velocity x, y.
        check_place: of the maze.
        unit: of velocities, for the message.
    """
    values = as_numbers("state", state, (2, 4), "x, y, and optionally velocity x, y")
    check_place("state", values)
    if values.shape[0] == 2:
        return at_rest(values)
    if np.abs(values[2:]).max() > MAX_SPEED:
        raise ValueError(
            f"expected velocities in state within +-{MAX_SPEED:g} {unit}, got {values[2:].tolist()}, "
            "try 2 numbers for a ball at rest."
        )
    return values


def check_options(
    options: dict[str, Any] | None, check_place: CheckPlace, unit: str
) -> tuple[Array | None, Array | None]:
    """State [4] and goal [2] that a reset is asked for, None for what it is not."""
    state, goal = options_of(options)
    return (
        None if state is None else check_state(state, check_place, unit),
        None if goal is None else check_place("goal", as_numbers("goal", goal, (2,), "x, y")),
    )


def info_of(state: Array, goal: Array) -> dict[str, Any]:
    """What `info` holds of a state [4] and a goal [2]."""
    distance = float(goal_distance(state[:2], goal))
    return {
        "is_success": distance <= SUCCESS_DISTANCE,
        "distance": distance,
        "state": state,
        "goal_state": at_rest(goal),
    }


def goal_distance(achieved: Any, desired: Any) -> Any:
    """Distance between places [..., 2], of shape [...], in their unit."""
    a, d = np.asarray(achieved, dtype=np.float64), np.asarray(desired, dtype=np.float64)
    return np.sqrt((a[..., 0] - d[..., 0]) ** 2 + (a[..., 1] - d[..., 1]) ** 2)


def at_rest(place: Array) -> Array:
    """The state [4] of a ball that rests at `place` [2]."""
    return np.concatenate([place, [0.0, 0.0]])
