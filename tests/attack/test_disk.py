"""Disks that are full, and folders that nobody may write to: one sentence, nothing lost, and with room it goes on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import Command, Tally, commands, copied, make_small

AREA = "full disk, read-only folder"
NAMES = ["collect", "train", "evaluate", "bench", "video"]
FULL, READ_ONLY = os.strerror(errno.ENOSPC), os.strerror(errno.EROFS)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk"
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return commands(tmp_path_factory.mktemp("commands"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("mounting is not allowed here, not even for root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def last_line(said: Path) -> str:
    """What a command says in the end; progress bars come before."""
    return (said.read_text().splitlines() or [""])[-1]


@pytest.mark.parametrize("sizes", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_told_and_loses_nothing(
    name: str, sizes: int, known: dict[str, Command], disk: Path, tmp_path: Path, tally: Tally
) -> None:
    command, said = known[name], tmp_path / "said"
    assert copied(command.line(tmp_path / "whole"), said) == 0, said.read_text()
    whole = command.result(tmp_path / "whole")
    needed = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    filler = disk / "filler"
    for number in range(sizes):
        folder = disk / f"run {number}"
        folder.mkdir()
        room = needed * (number + 0.5) / sizes
        filler.write_bytes(bytes(1))
        taken = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - int(room)
        filler.write_bytes(bytes(max(1, taken)))
        status = copied(command.line(folder), said)
        if status:
            half = [path.name for path in folder.rglob(".*")]
            text = last_line(said)
            clear = text if FULL in text and not half else f"{text} (left {half})\n"
            tally.judge(f"{name} in {room:.0f} bytes", said=clear, named=[folder])
        filler.unlink()
        assert copied(command.line(folder), said) == 0, said.read_text()
        tally.judge(f"{name} after {room:.0f} bytes", same=command.result(folder) == whole, named=())
    assert tally.tried > sizes, "the disk was never full"


@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_folder_is_told_before_work_begins(
    name: str, known: dict[str, Command], disk: Path, tmp_path: Path, tally: Tally
) -> None:
    command, said = known[name], tmp_path / "said"
    remount(disk, "ro")
    status = copied(command.line(disk / "new"), said)
    text = last_line(said)
    assert status == 2 and READ_ONLY in text
    tally.judge(name, said=text if len(said.read_text().splitlines()) == 1 else said.read_text(), named=[disk])
