"""The program `grasp-agent`: its commands, its overview, and its error messages."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import tyro
from rich.table import Table

from grasp_agent.cli.learning import collect, convert, train
from grasp_agent.cli.options import console
from grasp_agent.cli.planning import bench, plan
from grasp_agent.cli.playing import demo, evaluate, video
from grasp_agent.rollouts.workers import end_workers

COMMANDS: dict[str, Any] = {
    "demo": demo,
    "collect": collect,
    "convert": convert,
    "train": train,
    "evaluate": evaluate,
    "video": video,
    "plan": plan,
    "bench": bench,
}

LONGEST_LINE = 600
"""Characters of an error message; what users typed can be in it."""

RESUMABLE = ("demo", "collect", "convert", "train", "evaluate", "bench")


def _overview() -> Table:
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = "Planning with learned world models in Gymnasium", "left"
    table.caption, table.caption_justify = "grasp-agent COMMAND --help explains the options, with examples", "left"
    for name, command in COMMANDS.items():
        table.add_row(f"grasp-agent {name}", (command.__doc__ or "").splitlines()[0])
    return table


class _Stopped(KeyboardInterrupt):
    """A signal asked the program to stop.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    A user's mistake ends in one sentence on standard error and exit status 2. Ctrl-C (SIGINT) and SIGTERM stop a run
    alike: worker processes end at once, what is half written is removed, and the exit status is 130 or 143. Both do so
    even where the program that started this one ignores them, as shells do with SIGINT for commands in the background.

    Args:
        args: the words after the program's name; None takes those of the process. Without any, the overview is shown.
    """
    words = sys.argv[1:] if args is None else args
    if os.getcwd() not in sys.path:  # as `python -m` does, so that --env my_envs:Mine-v0 finds my_envs.py here
        sys.path.append(os.getcwd())
    if words in ([], ["-h"], ["--help"]):
        console.print(_overview())
        return
    try:
        with _stopping_on_signals():
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="grasp-agent",
                args=words,
            )
    except (ValueError, TypeError, ImportError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        print(f"grasp-agent: {_sentence(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as error:
        hint = "; what is finished is kept, the same command goes on from there" * (words[0] in RESUMABLE)
        print(f"grasp-agent: stopped{hint}", file=sys.stderr)
        raise SystemExit(128 + (error.number if isinstance(error, _Stopped) else signal.SIGINT)) from None


def _sentence(error: Exception) -> str:
    """What went wrong, in one line: for the system's errors the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        file = error.filename2 or error.filename
        named = f"{os.fsdecode(file)}: " if isinstance(file, str | bytes | os.PathLike) else ""
        text = f"{named}{error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"expected enough memory, got too little; try less at once {error}"
    else:
        text = str(error)
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Meanwhile SIGINT and SIGTERM end the worker processes and raise `_Stopped`, in the main thread."""
    if threading.current_thread() is not threading.main_thread():  # others cannot say what signals do
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        end_workers()
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
