"""Settings that a file holds, compared with the dataclass that they are for: their names, and what kind of values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_settings(kind: type[Any], given: Any, *, complete: bool = True) -> None:
    """Check JSON content against the fields of a dataclass; nothing is converted.

    A whole number must be written as one, so neither 3.0 nor true is; any finite number will do for a fraction.

    Args:
        kind: the dataclass. Annotations that JSON has no word for are not checked.
        given: a JSON object with a value for each field.
        complete: refuse missing fields that have a default, too.

    Raises:
        ValueError: fields are missing or unknown, or a value is of another kind; the message names them, not the file.
    """
    if not isinstance(given, dict):
        raise ValueError(f"expected an object with a value for each setting, got {_shown(given)}")
    known = {field.name: field for field in fields(kind) if field.init}
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"expected no other settings than {', '.join(known)}, got {', '.join(map(repr, unknown[:5]))}")
    missing = [
        name
        for name, field in known.items()
        if name not in given and (complete or (field.default is MISSING and field.default_factory is MISSING))
    ]
    if missing:
        raise ValueError(f"expected a value for every setting, missing {', '.join(missing)}")
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # a class of someone else's, in words that cannot be looked up
        return
    for name, value in given.items():
        if (expected := _misfit(value, hints[name], complete)) is not None:
            raise ValueError(f"{name}: expected {expected}, got {_shown(value)}")


def _misfit(value: Any, hint: Any, complete: bool) -> str | None:
    """What a value should be but is not; None if it fits, or if nothing is known of its kind."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        reasons = [_misfit(value, option, complete) for option in arguments]
        return None if None in reasons else " or ".join(str(reason) for reason in reasons)
    if origin is Literal:
        return None if value in arguments else " or ".join(map(repr, arguments))
    if origin in (tuple, list, Sequence):
        return _misfit_list(value, arguments, complete)
    if is_dataclass(hint) and isinstance(hint, type):
        try:
            check_settings(hint, value, complete=complete)
        except ValueError as error:
            return f"settings of a {hint.__name__} ({error})"
        return None
    fits, name = _KINDS.get(origin or hint, (lambda value: True, ""))
    return None if fits(value) else name


def _misfit_list(value: Any, hints: tuple[Any, ...], complete: bool) -> str | None:
    if not isinstance(value, list):
        return "a list"
    if not hints:
        return None
    if len(hints) == 1 or hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        return f"a list of {len(hints)}"
    reasons = (_misfit(entry, hint, complete) for entry, hint in zip(value, hints, strict=True))
    return next((f"in the list {reason}" for reason in reasons if reason is not None), None)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all fractions
        return False


_KINDS: Mapping[Any, tuple[Any, str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: isinstance(value, int) and _is_number(value), "a whole number"),
    float: (_is_number, "a finite number"),
    str: (lambda value: isinstance(value, str), "text"),
    dict: (lambda value: isinstance(value, dict), "an object"),
    NoneType: (lambda value: value is None, "null"),
}


def _shown(value: Any) -> str:
    """A value as the file may have it, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python turns into text
        text = "a number of very many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
