"""Checks of Push-T's states."""

from __future__ import annotations

from typing import Any

import numpy as np

from grasp_envs.pusht_simulation import ARENA, Array
from grasp_envs.validation import as_numbers, shown

# No motion from inside the arena exceeds it [px/s]: v <- 0.8 v + (target - p) has |v| <= 5 |target - p|.
MAX_SPEED = 4096.0


def check_range(name: str, positions: Array, low: float, high: float) -> None:
    """Raise ValueError unless all `positions` [px] lie within [low, high]."""
    if positions.min() < low or positions.max() > high:
        raise ValueError(
            f"expected positions in {name} within [{low:g}, {high:g}] px, got {positions.tolist()}, "
            f"try x and y inside the {ARENA:g} px arena."
        )


def check_state(name: str, value: Any, low: float, high: float) -> Array:
    """A state of 7 numbers, at rest if `value` has 5; ValueError for a position outside [low, high] px."""
    values = as_numbers(name, value, (5, 7), "agent x, y, block x, y, angle, and optionally agent velocity x, y")
    check_range(name, values[:4], low, high)
    if values.shape[0] == 5:
        return np.concatenate([values, [0.0, 0.0]])
    if np.abs(values[5:]).max() > MAX_SPEED:
        raise ValueError(
            f"expected agent velocities in {name} within +-{MAX_SPEED:g} px/s, got {values[5:].tolist()}, "
            "try 5 numbers for an agent at rest."
        )
    return values


def check_leaning(leaning: Any, goal: Any) -> None:
    """Raise ValueError unless `leaning` is a share from 0 to 1, and 0 where the expert has a goal."""
    number = isinstance(leaning, (int, float, np.integer, np.floating)) and not isinstance(leaning, bool)
    if not number or not 0 <= leaning <= 1:
        raise ValueError(f"expected leaning to be a number from 0 to 1, got {shown(leaning)}, try 0.3.")
    if leaning and goal is not None:
        raise ValueError(
            f"expected no leaning of an expert with a goal, which it would miss, got leaning {leaning:g},"
            " try goal=None."
        )
