"""Two runs into one folder at once, and workers that are killed: one goes on, one says why not, the data are whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks import Command, Tally, commands, copied, ended, make_small, start
from processes import children

AREA = "two runs in one folder, killed workers"
NAMES = ["collect", "train", "evaluate", "bench"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies processes, and reads the list of them")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return commands(tmp_path_factory.mktemp("commands"))


@pytest.mark.parametrize("pairs", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_of_two_runs_one_goes_on(
    name: str, pairs: int, known: dict[str, Command], tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    command, draw = known[name], random.Random(f"{name} {pairs}")
    assert copied(command.line(tmp_path / "whole"), tmp_path / "said") == 0
    for number in range(pairs):
        folder, said = tmp_path / f"both {number}", [tmp_path / "first", tmp_path / "second"]
        first = start(command.line(folder), said[0])
        time.sleep(0.2 * draw.random())
        second = start(command.line(folder), said[1])
        statuses = [ended(first), ended(second)]
        for status, file in zip(statuses, said, strict=True):
            if status:
                lines = file.read_text().splitlines()
                text = lines[-1] if lines and "no other run writes to" in lines[-1] else f"{lines}\n"
                tally.judge(f"{name} {number}: {status}", said=text, named=[folder])
        same = 0 in statuses and command.result(folder) == command.result(tmp_path / "whole")
        tally.judge(f"{name} {number}: {statuses}", same=same and not list(folder.rglob(".*")), named=())


WORKERS = "--policy random --episode-length 50 --resolution 16 --workers 2"


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing(kills: int, tmp_path: Path, tally: Tally) -> None:
    """Here shards have their full size, as the workers know no other."""
    command = [sys.executable, "-m", "grasp_agent.cli", "collect", *WORKERS.split(), "--steps", "20000", "--out"]
    draw, folder = random.Random(kills), tmp_path / "killed"
    for number in range(kills):
        with subprocess.Popen([*command, str(folder)], stderr=subprocess.PIPE, text=True) as process:
            end = time.monotonic() + 120
            while len(workers := children(process.pid)) < 2:
                if process.poll() is not None or time.monotonic() > end:
                    break
                time.sleep(0.02)
            time.sleep(2 * draw.random())
            for worker in sorted(workers)[:1]:
                os.kill(worker, signal.SIGKILL)
            _, said = process.communicate(timeout=120)
        if process.returncode:
            clear = said.splitlines()[-1] if "SIGKILL" in said else f"{said}\n"
            tally.judge(f"kill {number}", said=clear, named=["worker"])
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers), "a worker lives on"
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    files = [
        {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for run in (folder, tmp_path / "whole")
    ]
    tally.judge("the data", same=files[0] == files[1] and len(files[0]) > 20, named=())
    assert tally.tried > 1, "no worker was killed"
