"""Checks of what users hand to the environments: what was expected, what came, what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[np.float64]


MOST_PIXELS = 4096
"""Side of the largest picture: a slip of the pen must not ask for all memory."""
_SHOWN = 100


def shown(value: Any) -> str:
    """A value as error messages show it: one line, and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"expected {name} to be one of {listed}, got {shown(value)}, try {choices[0]!r}.")


def check_integer(name: str, value: Any, least: int, usual: int, most: int | None = None) -> int:
    """`value` as an int; ValueError unless it is an integer from `least` to `most`; `usual` is what to try."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"expected {name} to be an integer of at least {least}, got {shown(value)}, try {usual}.")
    if most is not None and value > most:
        raise ValueError(f"expected {name} to be an integer of at most {most}, got {shown(value)}, try {usual}.")
    return int(value)


def check_pixels(name: str, value: Any, usual: int) -> int:
    """The side of a picture, as `check_integer`."""
    return check_integer(name, value, 8, usual, MOST_PIXELS)


def check_seed(seed: Any) -> int | None:
    """`seed` as Gymnasium takes it; ValueError unless it is None or an integer of at least 0, as large as you like."""
    return None if seed is None else check_integer("seed", seed, 0, usual=0)


def as_numbers(name: str, value: Any, lengths: tuple[int, ...], meaning: str) -> Array:
    """`value` as a new float64 vector; ValueError unless finite and of one of `lengths`."""
    given = _as_array(value)
    if given is None:
        raise ValueError(f"expected {name} to be numbers ({meaning}), got {shown(value)}, try a list of floats.")
    values = np.array(given, dtype=np.float64)
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
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise ValueError(f'expected options to be a dictionary, got {shown(options)}, try {{"state": ...}}.')
    unknown = [name for name in options if name not in ("state", "goal")]
    if unknown:
        raise ValueError(f'expected options among "state" and "goal", got {shown(unknown)}, try one of the two.')
    return options.get("state"), options.get("goal")


def as_action(action: Any, space: spaces.Space[Any]) -> tuple[float, float]:
    """The two numbers of an action, within no bounds; ValueError unless they are finite. `space` is what to try."""
    values = _as_array(action)
    if values is None or values.shape != (2,):
        got = f"shape {action.shape} and dtype {action.dtype}" if isinstance(action, np.ndarray) else shown(action)
        raise ValueError(f"expected an action of 2 numbers, got {got}, try env.action_space.sample() for an example.")
    x, y = float(values[0]), float(values[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"expected a finite action, got {[x, y]}, try values inside {space}.")
    return x, y


def _as_array(value: Any) -> NDArray[Any] | None:
    """Real numbers as an array, or None if they are none."""
    try:
        values = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors elsewhere or with gradients
        return None
    return values if values.dtype.kind in "fiu" else None


def as_unit_action(action: Any, space: spaces.Space[Any]) -> tuple[float, float]:
    """As `as_action`, clipped to [-1, 1]."""
    x, y = as_action(action, space)
    return min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)
