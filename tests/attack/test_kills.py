"""Runs that are killed at moments chosen by a seed end as if nothing had happened, to the byte.

A moment is a number of accesses to the file system, so that a run is killed in the middle of writing more often than
its share of time would have it, or a share of the time that a run takes.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest
from attacks import STOPPED, Command, Tally, commands, copied, make_small

from grasp_agent.cli import main

AREA = "kill -9, Ctrl-C, SIGTERM, then again"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be copied here")

NAMES = ["collect", "train", "evaluate", "bench", "video"]
ACCESSES = {"collect": 60, "train": 60, "evaluate": 60, "bench": 40, "video": 6}
"""Accesses to the file system, at most, until a run is killed."""
RESUMABLE = [name for name in NAMES if name != "video"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return commands(tmp_path_factory.mktemp("commands"))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_killed_runs_end_as_one_that_was_not(
    name: str, kills: int, known: dict[str, Command], tmp_path: Path, tally: Tally
) -> None:
    command, said, draw = known[name], tmp_path / "said", random.Random(f"{name} {kills} 2026")
    began = time.monotonic()
    main(command.line(tmp_path / "whole"))  # here, so that the copies find imported what is imported late
    took, whole = time.monotonic() - began, command.result(tmp_path / "whole")
    assert whole
    killed, run = 0, 0
    for number in range(kills):
        folder = tmp_path / f"killed {run}"
        moment = {"at": draw.randint(1, ACCESSES[name])} if number % 2 else {"after": took * draw.random()}
        status = copied(command.line(folder), said, **moment)  # type: ignore[arg-type]
        assert status in (0, -signal.SIGKILL), said.read_text()
        killed += status != 0
        # Most runs are killed several times; the next begins where one had come to its end.
        if status == 0 or number % 5 == 4 or number == kills - 1:
            assert copied(command.line(folder), said) == 0, said.read_text()
            left = [path.name for path in folder.rglob(".*")]
            same = command.result(folder) == whole and not left
            tally.judge(f"{name}, kill {number} ({moment}), left {left}", same=same, named=())
            run += 1
    assert killed >= kills // 3, "the runs were over too soon"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("name", NAMES)
def test_stopped_runs_say_so_and_leave_whole_files(
    name: str, number: signal.Signals, known: dict[str, Command], tmp_path: Path
) -> None:
    command, said = known[name], tmp_path / "said"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it runs in the background
    try:
        at = random.Random(f"{name} {number}").randint(1, ACCESSES[name] // 2)
        status = copied(command.line(tmp_path / "run"), said, at=at, number=number)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 128 + number
    assert said.read_text().splitlines()[-1] == (STOPPED if name in RESUMABLE else "grasp-agent: stopped")
    assert not list((tmp_path / "run").rglob(".*")), "something half written, or a lock, was left behind"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_may_be_stopped_at_any_access(name: str, known: dict[str, Command], tmp_path: Path, tally: Tally) -> None:
    command, said = known[name], tmp_path / "said"
    main(command.line(tmp_path / "whole"))
    for at in range(1, 2 * ACCESSES[name], 1 if name == "video" else 3):
        folder = tmp_path / f"run {at}"
        status = copied(command.line(folder), said, at=at, number=signal.SIGTERM)
        left = [path.name for path in folder.rglob(".*")]
        same = not left and (status == 143 or command.result(folder) == command.result(tmp_path / "whole"))
        tally.judge(f"{name} stopped at access {at}: {status}, left {left}", same=same, named=())
        if status == 0:
            break


def test_the_results_that_are_compared_are_results(known: dict[str, Command], tmp_path: Path) -> None:
    copied(known["evaluate"].line(tmp_path), tmp_path / "said")
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["entrant"] for row in rows} == {"random", "zero"}
    assert len({row["best_coverage"] for row in rows}) > 2
