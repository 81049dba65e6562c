"""Functions of the user's own, named on the command line as "module:function"."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def by_name(what: str, source: str) -> Callable[..., Any]:
    """The function or class that "module:function" names.

    Args:
        what: it is wanted for, for the error messages.
        source: a module that Python finds, the current folder included, and a function or class in it.

    Raises:
        ValueError: there is none, or the module cannot be imported.
    """
    module, _, name = str(source).partition(":")
    if not (name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise ValueError(f"{what}: expected MODULE:FUNCTION, as in my_file:my_function, got {source!r}")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what}: expected a module that is installed or lies in the current folder, got {module!r} ({error})"
        ) from None
    except Exception as error:  # code of the user's can fail in any way
        raise ValueError(f"{what}: expected to import {module!r}, got {_told(error)}") from error
    if found is None:
        raise ValueError(f"{what}: expected a function or class of {module!r}, got {name!r}")
    if not callable(found):
        raise ValueError(f"{what}: expected a function or class, got {source!r}, a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def called(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's returns.

    Raises:
        ValueError: it fails; the message tells where.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise ValueError(f"{what}: expected it to return, got {_told(error)}") from error


def _told(error: Exception) -> str:
    """An error with its place in the user's file, the first that is not this one or Python's."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__ and not frame.filename.startswith("<") and "importlib" not in frame.filename:
            return f"{type(error).__name__} ({error}) in line {frame.lineno} of {Path(frame.filename).name}"
    return f"{type(error).__name__} ({error})"
