"""What the commands share: the types of their options, checks of these, and what is shown on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

console = Console()

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
CLASSIC_ENV = "grasp_envs:grasp_envs/PushT-v0"

# What the help shows of an argument that may be left out.
Words = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Numbers = Annotated[tuple[int, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Weights = Annotated[tuple[float, ...], tyro.conf.arg(metavar="NUMBER NUMBER ...", help_behavior_hint="(optional)")]
Paths = Annotated[
    tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(required, repeatable)")
]
MaybeStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")]
MaybeInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(optional)")]
MaybeFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(optional)")]


def say(text: str) -> None:
    """Print a line as it is: never broken in two, so that a command in it can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def check_device(device: str) -> None:
    """Refuse what is no device that PyTorch can use here, with a ValueError."""
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device: expected cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: expected a GPU that PyTorch can use, found none; try --device cpu")


def set_threads(threads: int | None) -> None:
    """Let PyTorch compute with so many CPU threads; None leaves it the choice. ValueError below 1."""
    if threads is not None:
        import torch

        if threads < 1:
            raise ValueError(f"--threads: expected at least 1, got {threads}")
        torch.set_num_threads(threads)
