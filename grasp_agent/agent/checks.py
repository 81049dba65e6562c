"""Checks of an agent's settings: expected what, got what, try what."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch

from grasp_agent.core.types import Budget


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None, what: str = "") -> int:
    """Return `value` if it is a whole number from `least` to `most`; `what` says what these stand for.

    Raises:
        TypeError: not a whole number.
        ValueError: out of range.
    """
    if most is not None:
        expected = f"a whole number from {least} to {most}{what}"
    else:
        expected = f"a whole number{'' if least is None else f' of at least {least}'}{what}"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{name}: expected {expected}, got {number}")
    return number


def a_budget(name: str, value: Any) -> Budget:
    """Return `value` if it is a `Budget`.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Budget):
        raise TypeError(
            f"{name}: expected a Budget or None, got {value!r}; try Budget(iterations=10) or Budget(seconds=0.1)"
        )
    return value


def usable_device(device: torch.device | str | None) -> torch.device | None:
    """Return the device if tensors can be made on it.

    Raises:
        ValueError: they cannot.
    """
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises all three
        raise ValueError(
            f"device: expected one that torch can use on this machine, got {str(device)!r}; try device='cpu'"
        ) from error
