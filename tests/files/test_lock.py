"""One writer per folder, and word of who it is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grasp_agent.files.lock import locked

HOLD = """
import sys, time
from grasp_agent.files.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with locked(folder) as held:
        assert held == folder
        with (
            pytest.raises(RuntimeError, match=rf"no other run writes to, but process {os.getpid()} does"),
            locked(folder),
        ):
            pass
        with pytest.raises(RuntimeError, match="but process"), locked(folder):
            pytest.fail("a refused writer took the lock away")
    assert not folder.exists()
    with locked(folder):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=rf"process {process.pid} does"), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_errors_that_name_no_file_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, locked(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(OSError) as named, locked(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "log.jsonl")
    assert named.value.filename == "log.jsonl"
    with pytest.raises(FileNotFoundError, match=r"^expected a model$"), locked(tmp_path):
        raise FileNotFoundError("expected a model")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_stays_empty_goes_again(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="late"), locked(deep):
        raise ValueError("late")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="late"), locked(deep):
        (tmp_path / "a" / "other").write_text("mine")
        raise ValueError("late")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "other"]
    (tmp_path / "kept").mkdir()
    with locked(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()
