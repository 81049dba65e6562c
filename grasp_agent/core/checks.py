"""Checks of what users hand over: expected what, got what, try what.

Those of single values return the value, or raise a TypeError where its kind is wrong. Those of frozen dataclasses are
for `__post_init__`, and raise a ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeVar

import torch

Kind = TypeVar("Kind")

LARGEST_NUMBER = torch.finfo(torch.float32).max
"""Planners compute in single precision if the world model does."""
LARGEST_COUNT = 2**63 - 1
"""What arrays can be as long as."""
_SHOWN = 100


def shown(value: Any) -> str:
    """A value as error messages show it: one line, and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_number(value: Any) -> bool:
    """Whether it is a number that tensors can be multiplied by: finite in single precision."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= LARGEST_COUNT
    return isinstance(value, float) and abs(value) <= LARGEST_NUMBER


def is_count(value: Any, least: int = 0) -> bool:
    """Whether it is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_COUNT


# ----- single values ----------------------------------------------------------------------------------------


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
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}")
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{name}: expected {expected}, got {shown(number)}")
    return number


def instance_of(name: str, value: Any, kind: type[Kind], expected: str, advice: str = "") -> Kind:
    """Return `value` if it is a `kind`, and not the class itself.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind) or isinstance(value, type):
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}{advice}")
    return value


def usable_device(device: torch.device | str | None) -> torch.device | None:
    """Return the device if tensors can be made on it and read back.

    Raises:
        ValueError: they cannot.
    """
    if device is None:
        return None
    try:
        probe = torch.zeros(1, device=device)
        probe.item()
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError) as error:  # torch raises all of them
        raise ValueError(
            f"device: expected one that torch can use on this machine, got {shown(str(device))}; try device='cpu'"
        ) from error
    return probe.device


# ----- fields of frozen dataclasses -------------------------------------------------------------------------


def _refuse(owner: Any, name: str, expected: str) -> None:
    value = getattr(owner, name)
    large = isinstance(value, int | float) and LARGEST_NUMBER < abs(value) < float("inf")
    advice = f"; numbers end at {LARGEST_NUMBER:.1e}" if large else ""
    raise ValueError(f"{type(owner).__name__}.{name}: expected {expected}, got {shown(value)}{advice}")


def at_least(owner: Any, least: int, *names: str) -> None:
    """Finite numbers >= least: whole ones, or also None, where the field is annotated so."""
    for name in names:
        value = getattr(owner, name)
        annotation = str(type(owner).__dataclass_fields__[name].type)
        if value is None and annotation.endswith("None"):
            continue
        if annotation.startswith("int"):
            if not is_count(value, least):
                _refuse(owner, name, f"a whole number of at least {least}")
        elif not is_number(value) or value < least:
            _refuse(owner, name, f"a finite number of at least {least}")


def positive(owner: Any, *names: str) -> None:
    """Finite numbers > 0."""
    for name in names:
        value = getattr(owner, name)
        if not is_number(value) or value <= 0:
            _refuse(owner, name, "a finite number above 0")


def positive_or_none(owner: Any, *names: str) -> None:
    """Finite numbers > 0, or None."""
    positive(owner, *(name for name in names if getattr(owner, name) is not None))


def fraction(owner: Any, *names: str) -> None:
    """Numbers in [0, 1)."""
    for name in names:
        value = getattr(owner, name)
        if not is_number(value) or not 0 <= value < 1:
            _refuse(owner, name, "a number from 0 up to, but not including, 1")


def flag(owner: Any, *names: str) -> None:
    """True or False."""
    for name in names:
        if not isinstance(getattr(owner, name), bool):
            _refuse(owner, name, "True or False")


def choice(owner: Any, name: str, valid: Sequence[str]) -> None:
    """One of the valid names."""
    value = getattr(owner, name)
    if not isinstance(value, str) or value not in valid:
        _refuse(owner, name, "one of " + ", ".join(repr(v) for v in valid))
