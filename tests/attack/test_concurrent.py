"""Two runs into one folder at once, and workers that are killed: one goes on, one says why not, the data are whole."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from attacks import Command, Tally, commands, copied, ended, make_small, start
from processes import children

from grasp_agent.data import CollectSettings, collect

AREA = "two runs in one folder, killed workers"
NAMES = ["collect", pytest.param("train", marks=pytest.mark.slow), "evaluate", "bench"]

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


def data_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing(kills: int, tmp_path: Path, tally: Tally) -> None:
    env_ids = ("grasp_envs:grasp_envs/PushTReach-v0",)
    settings = CollectSettings(env_ids, steps=800, shard_steps=40, episode_length=20, resolution=16, policy="random")
    whole, draw = collect(settings, tmp_path / "whole", workers=1), random.Random(kills)
    for number in range(kills):
        folder, at = tmp_path / f"killed {number}", draw.randint(1, 15)

        def kill(done: int, shards: int, at: int = at) -> None:
            if done == at:
                os.kill(min(children(os.getpid())), signal.SIGKILL)

        try:
            collect(settings, folder, workers=2, on_shard=kill)
        except RuntimeError as error:
            said = str(error) if "was killed with SIGKILL" in str(error) else f"{error}\n"
            tally.judge(f"kill {number} after {at} shards", said=said, named=[folder])
        assert not children(os.getpid()), "a worker lives on"
        left = [path.name for path in folder.glob(".*")]
        tally.judge(f"kill {number}, left {left}", same=not left, named=())
        collect(settings, folder, workers=1)
        tally.judge(f"the data after kill {number}", same=data_of(folder) == data_of(whole), named=())
    assert tally.tried > 2 * kills, "no worker was killed"
