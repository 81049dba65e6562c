"""Checks of what users hand to the environments: what was expected, what came, what to try."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[np.float64]


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


def options_of(options: dict[str, Any] | None) -> tuple[Any, Any]:
    """The "state" and the "goal" that `reset` is asked for, None where it is not; ValueError for other options."""
    options = options or {}
    unknown = sorted(set(options) - {"state", "goal"})
    if unknown:
        raise ValueError(f'expected options among "state" and "goal", got {unknown}, try one of the two.')
    return options.get("state"), options.get("goal")


def as_action(action: Any, space: spaces.Space[Any]) -> tuple[float, float]:
    """The two numbers of an action, within no bounds; ValueError unless they are finite. `space` is what to try."""
    values = np.asarray(action)
    if values.shape != (2,) or values.dtype.kind not in "fiu":
        raise ValueError(
            f"expected an action of 2 numbers, got shape {values.shape} and dtype {values.dtype}, "
            "try env.action_space.sample() for an example."
        )
    x, y = float(values[0]), float(values[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"expected a finite action, got {[x, y]}, try values inside {space}.")
    return x, y


def as_unit_action(action: Any, space: spaces.Space[Any]) -> tuple[float, float]:
    """As `as_action`, clipped to [-1, 1]."""
    x, y = as_action(action, space)
    return min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)
