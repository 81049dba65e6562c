"""Checks of hyperparameters, for the planners' `__post_init__`: expected what, got what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def _refuse(planner: Any, name: str, expected: str) -> None:
    raise ValueError(f"{type(planner).__name__}.{name}: expected {expected}, got {getattr(planner, name)!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def at_least(planner: Any, least: int, *names: str) -> None:
    """Finite numbers >= least: whole ones, or also None, where the field is annotated so."""
    for name in names:
        value = getattr(planner, name)
        annotation = str(type(planner).__dataclass_fields__[name].type)
        if value is None and annotation.endswith("None"):
            continue
        whole = annotation.startswith("int")
        if not _number(value) or value < least or (whole and not isinstance(value, int)):
            _refuse(planner, name, f"{'a whole number' if whole else 'a finite number'} of at least {least}")


def positive(planner: Any, *names: str) -> None:
    """Finite numbers > 0."""
    for name in names:
        value = getattr(planner, name)
        if not _number(value) or value <= 0:
            _refuse(planner, name, "a finite number above 0")


def positive_or_none(planner: Any, *names: str) -> None:
    """Finite numbers > 0, or None."""
    positive(planner, *(name for name in names if getattr(planner, name) is not None))


def fraction(planner: Any, *names: str) -> None:
    """Numbers in [0, 1)."""
    for name in names:
        value = getattr(planner, name)
        if not _number(value) or not 0 <= value < 1:
            _refuse(planner, name, "a number from 0 up to, but not including, 1")


def choice(planner: Any, name: str, valid: Sequence[str]) -> None:
    """One of the valid names."""
    if getattr(planner, name) not in valid:
        _refuse(planner, name, "one of " + ", ".join(repr(v) for v in valid))
