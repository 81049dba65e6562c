"""What the commands share: default values, types and checks of their options, and how they print."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from grasp_agent.tasks import DEFAULT_TASK

console = Console()

ENVS = DEFAULT_TASK.default_env_ids
"""Environments that are recorded when none is named; the first is the one that is played."""
ENV = ENVS[0]

MOST = 1_000_000
"""Of episodes, goals and trials."""

# Types of options that may be left out or repeated, and how the help shows them.
Words = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Numbers = Annotated[tuple[int, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Weights = Annotated[tuple[float, ...], tyro.conf.arg(metavar="NUMBER NUMBER ...", help_behavior_hint="(optional)")]
Bounds = Annotated[tuple[float, ...], tyro.conf.arg(metavar="LEAST LARGEST ...", help_behavior_hint="(optional)")]
Paths = Annotated[
    tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(required, repeatable)")
]
MaybeStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")]
MaybeInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(optional)")]
MaybeYes = Annotated[Literal["yes", "no"] | None, tyro.conf.arg(metavar="{yes,no}", help_behavior_hint="(optional)")]
MaybeFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(optional)")]


def say(text: str) -> None:
    """Print a line without wrapping it, so that a command in it can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def env_options(env_kwargs: Mapping[str, Any]) -> str:
    """Arguments of an environment as one types them, a blank before each: " --env-arg maze=large"."""
    return "".join(f" --env-arg {shlex.quote(f'{name}={value}')}" for name, value in env_kwargs.items())


def named_values(option: str, given: Sequence[str], example: str) -> dict[str, Any]:
    """Values by name from "NAME=VALUE" each; a value that reads as a number, True, False or None is that.

    Raises:
        ValueError: no =, or a name twice.
    """
    arguments: dict[str, Any] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"{option} {entry}: expected NAME=VALUE, as in {example}")
        if name in arguments:
            raise ValueError(f"{option} {entry}: expected different names, got {name!r} twice")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def env_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Arguments of an environment, from what --env-arg says; see `named_values`."""
    return named_values("--env-arg", given, "resolution=96")


def check_device(device: str) -> None:
    """Check the option --device.

    Raises:
        ValueError: it is neither cpu nor cuda, or PyTorch finds no GPU here.
    """
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device: expected cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: expected a GPU that PyTorch can use, found none; try --device cpu")


def check_number(option: str, number: int, least: int = 1, most: int = MOST) -> None:
    """Check a number of things that are counted one by one: a slip of the pen must not ask for all memory.

    Raises:
        ValueError: too few, or too many.
    """
    if number < least:
        raise ValueError(f"{option}: expected at least {least}, got {number}")
    if number > most:
        raise ValueError(f"{option}: expected at most {most}, got {number}")


def set_threads(threads: int | None) -> None:
    """Let PyTorch compute with so many CPU threads; None leaves the number to PyTorch.

    Raises:
        ValueError: fewer than one thread, or more than any machine has.
    """
    if threads is not None:
        import torch

        check_number("--threads", threads, most=1024)
        torch.set_num_threads(threads)
