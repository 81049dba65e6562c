"""Checks of what users hand to the environments: what was expected, what came, what to try."""

from __future__ import annotations

from typing import Any

import numpy as np

from grasp_envs.pusht_simulation import ARENA, Array

# No motion from inside the arena exceeds it [px/s]: v <- 0.8 v + (target - p) has |v| <= 5 |target - p|.
MAX_SPEED = 4096.0


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"expected {name} to be one of {listed}, got {value!r}, try {choices[0]!r}.")


def check_integer(name: str, value: Any, least: int, usual: int) -> int:
    """`value` as an int; ValueError unless it is an integer of at least `least`; `usual` is what to try."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"expected {name} to be an integer of at least {least}, got {value!r}, try {usual}.")
    return int(value)


def as_numbers(name: str, value: Any, lengths: tuple[int, ...], meaning: str) -> Array:
    """`value` as a new float64 vector; ValueError unless finite and of one of `lengths`."""
    try:
        values = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected {name} to be numbers ({meaning}), got {value!r}, try a list of floats.") from None
    if values.ndim != 1 or values.shape[0] not in lengths:
        wanted = " or ".join(str(length) for length in lengths)
        raise ValueError(
            f"expected {name} of {wanted} numbers ({meaning}), got shape {values.shape}, try env.get_state()."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers in {name} ({meaning}), got {values.tolist()}, try env.get_state().")
    return values


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
