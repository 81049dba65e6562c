"""Runs that are killed at moments chosen by a seed end as if nothing had happened, to the byte.

A moment is a number of accesses to the file system: a run is killed in the middle of writing more often than its share
of time would have it. The killed run is a copy of this process, which has imported everything.
"""

from __future__ import annotations

import csv
import functools
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_model import TINY

import grasp_agent.data
import grasp_agent.training
from grasp_agent.cli import main
from grasp_agent.data import CollectSettings
from grasp_agent.rollouts import vector

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be copied here")

KILLS = 5
"""How often a run is killed before it may end."""
LONGEST = 60
"""Accesses to the file system, at most, until it is."""
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 40 steps, a recipe that takes a moment and saves after every step, and a clock that stands still."""
    monkeypatch.setattr(grasp_agent.data, "CollectSettings", functools.partial(CollectSettings, shard_steps=40))
    recipe = grasp_agent.training.LatentRecipe(model=TINY, representation="supervised", unroll=2, held_out=0.3)
    stages = {
        name: replace(getattr(recipe, name), batch=8, steps=4, log_every=1, checkpoint_seconds=0.0)
        for name in ("encoder", "dynamics")
    }
    monkeypatch.setitem(grasp_agent.training.RECIPES, "pose", lambda data: replace(recipe, **stages))  # type: ignore[arg-type]
    monkeypatch.setattr(vector, "time", SimpleNamespace(perf_counter=lambda: 0.0))


def copied(args: Sequence[str], at: int | None, number: int, said: Path) -> int:
    """Run a command in a copy of this process, which gets a signal at an access to the files -> its wait status.

    Args:
        args: the command; --out names its folder.
        at: which access to a file in that folder; None for never.
        number: of the signal.
        said: where what it says is written.
    """
    folder = args[args.index("--out") + 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which a copy does not have
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 99
    try:
        for stream, name in ((1, said.with_suffix(".out")), (2, said)):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        accesses = 0

        def count(event: str, details: tuple[object, ...]) -> None:
            nonlocal accesses
            if event in WATCHED and str(details[0]).startswith(folder):
                accesses += 1
                if accesses == at:
                    os.kill(os.getpid(), number)

        sys.addaudithook(count)
        main(list(args))
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


def contents(folder: Path, wanted: Callable[[Path], bool]) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and wanted(path)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def collect(out: Path) -> list[str]:
    options = ["--policy", "random", "--steps", "160", "--episode-length", "20", "--resolution", "16", "--workers", "1"]
    return ["collect", "--out", str(out), *options]


def evaluate(out: Path) -> list[str]:
    options = ["--policy", "random", "--policy", "zero", "--episodes", "6", "--goal-horizon", "5"]
    return ["evaluate", "--out", str(out), *options]


def train(data: Path, out: Path) -> list[str]:
    return ["train", "--data", str(data), "--out", str(out), "--threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    settings = CollectSettings(
        ("grasp_envs:grasp_envs/PushTReach-v0",), steps=80, shard_steps=40, episode_length=20, resolution=16
    )
    return grasp_agent.data.collect(settings, folder / "data", workers=1)


@pytest.fixture(params=["collect", "evaluate", "train"])
def command(request: pytest.FixtureRequest, data: Path) -> Callable[[Path], list[str]]:
    return {"collect": collect, "evaluate": evaluate, "train": functools.partial(train, data)}[request.param]


KEPT = {"collect": ("",), "evaluate": ("results.csv", "results.json"), "train": (".safetensors", "metrics.json")}
"""Ends of the names of files that must be the same."""


def test_killed_runs_end_as_one_that_was_not(command: Callable[[Path], list[str]], tmp_path: Path) -> None:
    name, said = command(tmp_path)[0], tmp_path / "said"
    main(command(tmp_path / "whole"))  # here, so that the copies find imported what is imported late
    moments, killed = random.Random(f"{name} 2026"), 0
    for _ in range(KILLS):
        status = copied(command(tmp_path / "killed"), moments.randint(1, LONGEST), signal.SIGKILL, said)
        assert status in (0, signal.SIGKILL), said.read_text()
        killed += status != 0
    assert killed >= KILLS // 2, "the run was over too soon"
    assert copied(command(tmp_path / "killed"), None, 0, said) == 0, said.read_text()
    whole, again = (
        contents(tmp_path / run, lambda path: path.name.endswith(KEPT[name])) for run in ("whole", "killed")
    )
    assert again == whole and len(whole) > 1
    left = [path.name for path in (tmp_path / "killed").rglob(".*")]
    assert not left, "what killed runs had not finished was not removed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_stopped_runs_say_so_and_leave_whole_files(
    command: Callable[[Path], list[str]], number: signal.Signals, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it runs in the background
    try:
        at = random.Random(f"{command(tmp_path)[0]} {number}").randint(10, 25)
        status = copied(command(tmp_path / "run"), at, number, tmp_path / "said")
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.waitstatus_to_exitcode(status) == 128 + number
    said = (tmp_path / "said").read_text().splitlines()[-1]
    assert said == "grasp-agent: stopped; what is finished is kept, the same command goes on from there"
    assert not list((tmp_path / "run").rglob(".*")), "something half written, or a lock, was left behind"


def test_the_results_that_are_compared_are_results(tmp_path: Path) -> None:
    copied(evaluate(tmp_path / "run"), None, 0, tmp_path / "said")
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["entrant"] for row in rows} == {"random", "zero"}
    assert len({row["best_coverage"] for row in rows}) > 2
