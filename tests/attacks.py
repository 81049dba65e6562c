"""What the attacks share: small commands, copies of this process that run them, and a judge of what they say."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_model import TINY

import grasp_agent.data
import grasp_agent.training
from grasp_agent.benchmark import calibration
from grasp_agent.cli import main
from grasp_agent.data import CollectSettings
from grasp_agent.models import LatentWorldModel, save_pretrained
from grasp_agent.rollouts import vector

STOPPED = "grasp-agent: stopped; what is finished is kept, the same command goes on from there"
LONGEST_SENTENCE = 700
"""Characters, paths included."""
_WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass
class Tally:
    """How the attacks of one test ended.

    Attributes:
        area: what was attacked.
        held: how many ended as they should.
        lost: those after which something was lost, or believed that is not true.
        unclear: those after which it is not said in a sentence what is wrong with which file.
    """

    area: str
    held: int = 0
    lost: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.held + len(self.lost) + len(self.unclear)

    def judge(self, attack: str, *, same: bool | None = None, said: str | None = None, named: Sequence[object]) -> None:
        """Count an attack.

        Args:
            attack: what was done, for the report of a failure.
            same: whether everything was as if there had been no attack; None if it was refused.
            said: the refusal.
            named: of these the refusal must name one.
        """
        if same is not None:
            self.held += same
            self.lost += [] if same else [attack]
        elif said is not None and is_clear(said, named):
            self.held += 1
        else:
            self.unclear.append(f"{attack}: {said}")


def is_clear(said: str, named: Sequence[object]) -> bool:
    """Whether it is one sentence, and names one of these."""
    one = 0 < len(said.strip().splitlines()) <= 1 and len(said) <= LONGEST_SENTENCE
    return one and "Traceback" not in said and any(str(name) in said for name in named)


# ---- small commands ------------------------------------------------------------------------------------------


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 40 steps, a recipe that takes a moment and saves after every step, and clocks that tick when read."""
    monkeypatch.setattr(grasp_agent.data, "CollectSettings", functools.partial(CollectSettings, shard_steps=40))
    recipe = grasp_agent.training.LatentRecipe(model=TINY, representation="supervised", unroll=2, held_out=0.3)
    stages = {
        name: replace(getattr(recipe, name), batch=8, steps=4, log_every=1, checkpoint_seconds=0.0)
        for name in ("encoder", "dynamics")
    }
    monkeypatch.setitem(grasp_agent.training.RECIPES, "sprites", lambda data: replace(recipe, **stages))  # type: ignore[arg-type]
    monkeypatch.setattr(vector, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    ticks = itertools.count()
    monkeypatch.setattr(calibration, "time", SimpleNamespace(process_time=lambda: next(ticks) / 1024))


@dataclass(frozen=True)
class Command:
    """A command that runs long, made short.

    Attributes:
        words: all but where it writes.
        output: where it writes, within a folder.
        kept: ends of the names of the files that must be the same whatever happens.
    """

    words: tuple[str, ...]
    output: str
    kept: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0]

    def line(self, folder: Path) -> list[str]:
        return [*self.words, "--out", str(folder / self.output)]

    def result(self, folder: Path) -> dict[str, bytes]:
        """The files that must be the same."""
        files = [path for path in folder.rglob("*") if path.is_file() and path.name.endswith(self.kept)]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def commands(folder: Path) -> dict[str, Command]:
    """Every command that runs long; data and a model for them are made in `folder`."""
    settings = CollectSettings(
        ("grasp_envs:grasp_envs/PushTReach-v0",), steps=80, shard_steps=40, episode_length=20, resolution=16
    )
    data = grasp_agent.data.collect(settings, folder / "data", workers=1)
    torch.manual_seed(0)
    model = save_pretrained(LatentWorldModel(TINY), folder / "model")
    players = "--policy random --policy zero --goal-horizon 5"
    small = "--policy random --steps 160 --episode-length 20 --resolution 16 --workers 1"
    planners = "--stage open --planner gd --planner shooting --horizon 5 --goals 2 --seconds 0.02 --workers 1"
    made = [
        Command(("collect", *small.split()), "out", ("",)),
        Command(("train", "--data", str(data), "--threads", "1"), "out", (".safetensors", "metrics.json")),
        Command(("evaluate", *players.split(), "--episodes", "6"), "out", ("results.csv", "results.json")),
        Command(("bench", *planners.split(), "--model", str(model)), "out", ("open.csv", "open.json", "table.md")),
        Command(("video", *players.split(), "--seed", "3", "--size", "64"), "out.gif", ("out.gif",)),
    ]
    return {command.name: command for command in made}


# ---- copies of this process ----------------------------------------------------------------------------------


def start(
    args: Sequence[str], said: Path, *, at: int | None = None, after: float | None = None, number: int = signal.SIGKILL
) -> int:
    """Run a command in a copy of this process, which has imported everything -> the copy's process number.

    Args:
        args: the command; --out names its output.
        said: where what it says is written.
        at: the access to its output at which it gets a signal; None for never.
        after: seconds after which it does; None for never.
        number: of the signal.
    """
    output = Path(args[args.index("--out") + 1])
    watched = (str(output), str(output.with_name(f".partial-{output.name}")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which a copy does not have
        child = os.fork()
    if child:
        return child
    status = 99
    try:
        for stream, name in ((1, said.with_suffix(".out")), (2, said)):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        accesses = 0

        def count(event: str, details: tuple[object, ...]) -> None:
            nonlocal accesses
            if event in _WATCHED and str(details[0]).startswith(watched):
                accesses += 1
                if accesses == at:
                    os.kill(os.getpid(), number)

        sys.addaudithook(count)
        if after is not None:
            threading.Thread(target=lambda: (time.sleep(after), os.kill(os.getpid(), number)), daemon=True).start()
        main(list(args))
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Wait for a copy -> its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copied(args: Sequence[str], said: Path, **options: Any) -> int:
    """`start` a copy, and wait until it has `ended`."""
    return ended(start(args, said, **options))


# ---- damage --------------------------------------------------------------------------------------------------


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Some bytes with one damage of a kind that a seed chooses -> what it is, and the bytes."""
    kinds: list[Callable[[bytes, random.Random], tuple[str, bytes]]] = [
        _flip,
        _cut,
        _zero_tail,
        _again,
        _without,
        _swap,
    ]
    while True:
        told, changed = draw.choice(kinds)(content, draw)
        if changed != content:
            return told, changed


def _flip(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    return f"bit {bit} of byte {at}", content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def _cut(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    at = draw.randrange(len(content))
    return f"cut at {at}", content[:at]


def _zero_tail(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    at = draw.randrange(len(content))
    return f"zeros from {at}", content[:at] + bytes(len(content) - at)


def _again(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    first, last = sorted(draw.sample(range(len(content) + 1), 2))
    return f"bytes {first} to {last} twice", content[:last] + content[first:]


def _without(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    first, last = sorted(draw.sample(range(len(content) + 1), 2))
    return f"without bytes {first} to {last}", content[:first] + content[last:]


def _swap(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Lines or, in files without any, bytes in each other's place."""
    parts = content.splitlines(keepends=True)
    parts = parts if len(parts) > 2 else [content[i : i + 1] for i in range(len(content))]
    one, other = draw.sample(range(len(parts)), 2)
    parts[one], parts[other] = parts[other], parts[one]
    return f"parts {one} and {other} swapped", b"".join(parts)
