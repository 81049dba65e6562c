"""A program with worker processes that only its own process is told to stop, as systemd, Slurm and Docker do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks import STOPPED
from processes import children

from grasp_agent.cli import app
from grasp_agent.rollouts.workers import in_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the list of processes of Linux")

AREA = "programs with workers that are told to stop"


def test_the_workers_end_with_the_program(tmp_path: Path) -> None:
    """Whatever a shell had it ignore, as it does with Ctrl-C for a command in the background."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "grasp_agent.cli", "collect", "--out", str(data), "--policy", "random"]
    command += ["--steps", "1000000", "--workers", "2", "--resolution", "16"]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with subprocess.Popen(ignoring, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 120
            while len(workers := children(process.pid)) < 2:
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.02)
            time.sleep(0.3)
            process.terminate()
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (143, STOPPED + "\n")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers), "a worker lives on"
    assert not list(data.glob(".*"))
    assert os.listdir(data) == ["dataset.json"] or list(data.glob("shard-*"))


def test_workers_end_before_what_they_wrote_is_cleaned_up(tmp_path: Path) -> None:
    """Also when the signal comes while a result is looked at, and not while one is awaited."""
    begun, done = tmp_path / "begun", tmp_path / "done"
    slow = "import pathlib, time; pathlib.Path(begun).touch(); time.sleep(5); pathlib.Path(done).touch()"
    results = in_processes(exec, [("pass",), (slow, {"begun": begun, "done": done})], 2, "me")
    with pytest.raises(KeyboardInterrupt), app._stopping_on_signals():
        next(results)
        end = time.monotonic() + 120
        while not begun.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        signal.raise_signal(signal.SIGTERM)
    # The pool's own thread collects ended processes, too: one may be gone before it is counted as such here.
    alive = [worker for worker in multiprocessing.active_children() if Path(f"/proc/{worker.pid}").exists()]
    assert not alive and not done.exists()
    results.close()  # type: ignore[attr-defined]
