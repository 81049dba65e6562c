"""The program `grasp-agent`: its commands, its overview, and its error messages."""

from __future__ import annotations

import os
import sys
from typing import Any

import tyro
from rich.table import Table

from grasp_agent.cli.learning import collect, train
from grasp_agent.cli.options import console
from grasp_agent.cli.planning import bench, plan
from grasp_agent.cli.playing import demo, evaluate, video

COMMANDS: dict[str, Any] = {
    "demo": demo,
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "video": video,
    "plan": plan,
    "bench": bench,
}

RESUMABLE = ("demo", "collect", "train", "evaluate", "bench")


def _overview() -> Table:
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = "Planning with learned world models in Gymnasium", "left"
    table.caption, table.caption_justify = "grasp-agent COMMAND --help explains the options, with examples", "left"
    for name, command in COMMANDS.items():
        table.add_row(f"grasp-agent {name}", (command.__doc__ or "").splitlines()[0])
    return table


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    A user's mistake ends in one sentence on standard error and exit status 2, Ctrl-C in exit status 130.

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
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="grasp-agent",
            args=words,
        )
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        print(f"grasp-agent: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        hint = "; what is finished is kept, the same command goes on from there" * (words[0] in RESUMABLE)
        print(f"grasp-agent: stopped{hint}", file=sys.stderr)
        raise SystemExit(130) from None
