"""Worker processes: none outlives the one that started it, and a dead one is reported as what it was."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from grasp_agent.rollouts import workers
from grasp_agent.rollouts.workers import end_workers, in_processes

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without signals")


def code(text: str) -> tuple[str]:
    """A job for `exec`, which every process knows."""
    return (f"import os, pathlib, signal, time\n{text}",)


def late(file: Path) -> tuple[str]:
    """A job that says that it has begun, and a while later that it was finished."""
    return code(f"file = pathlib.Path({str(file)!r}); file.touch(); time.sleep(5); file.with_suffix('.done').touch()")


def wait_for(*files: Path) -> None:
    end = time.monotonic() + 120
    while not all(file.exists() and (file.stat().st_size or file.suffix != ".pid") for file in files):
        assert time.monotonic() < end, "the workers did not begin"
        time.sleep(0.02)


def test_results_come_and_no_process_stays() -> None:
    assert sorted(in_processes(abs, [(-1,), (2,), (-3,)], 2, "me")) == [1, 2, 3]
    assert not multiprocessing.active_children()


@unix
def test_a_dead_worker_is_noticed_at_once_whichever_it_is(tmp_path: Path) -> None:
    """The pool ends the other, whose work is not finished."""
    files = [tmp_path / "a", tmp_path / "b"]
    for dies in range(2):
        jobs = [late(file) for file in files]
        jobs[dies] = code("os.kill(os.getpid(), signal.SIGSEGV)")
        with pytest.raises(
            RuntimeError, match="me: expected the worker processes to live, but one was ended by SIGSEGV"
        ):
            list(in_processes(exec, jobs, 2, "me"))
        assert not multiprocessing.active_children() and not list(tmp_path.glob("*.done"))


@unix
@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (
            (-15, -9, -15),
            "one was killed with SIGKILL, perhaps because the machine ran out of memory; .* fewer workers",
        ),
        ((-15, -11), "one was ended by SIGSEGV; what is finished is kept, the same command goes on from there"),
        ((-15, -15), "one was ended by SIGTERM; what is finished is kept"),
        ((0, -2), "one was ended by SIGINT; what is finished is kept"),
        ((-15, 3), "one ended with exit status 3; what is finished is kept"),
        ((0, -250), "one was ended by signal 250"),
        ((0, 0), "one ended while it started"),
        ((), "one ended while it started"),
    ],
)
def test_a_dead_worker_is_reported_as_what_it_was(codes: tuple[int, ...], words: str) -> None:
    said = workers._end_of(SimpleNamespace(exitcode=code) for code in codes)  # type: ignore[misc]
    assert re.match(words, said) and ("memory" in said) is (-9 in codes)


def test_who_wants_no_more_results_waits_for_none(tmp_path: Path) -> None:
    results: Iterator[None] = in_processes(exec, [code("pass"), late(tmp_path / "a")], 2, "me")  # type: ignore[assignment]
    next(results)
    wait_for(tmp_path / "a")
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    assert not (tmp_path / "a.done").exists(), "the job was finished before"


def test_a_stopping_program_ends_them_at_once(tmp_path: Path) -> None:
    results = in_processes(exec, [code("pass"), late(tmp_path / "a")], 2, "me")
    next(iter(results))
    wait_for(tmp_path / "a")
    end_workers()
    assert not multiprocessing.active_children()
    with pytest.raises(RuntimeError, match="SIGKILL"):
        next(iter(results))
    assert not (tmp_path / "a.done").exists() and not workers._running


class Reaped:
    """A process that ends, which another thread is told of first: this one knows a moment later."""

    def __init__(self) -> None:
        self.asked = 0

    def kill(self) -> None: ...

    def join(self, timeout: float) -> None: ...

    def is_alive(self) -> bool:
        self.asked += 1
        return self.asked < 4


def test_an_end_that_another_thread_learns_of_first_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Reaped(), Reaped()
    workers._kill([first, second])  # type: ignore[list-item]
    assert first.asked >= 4 and second.asked >= 4
    monkeypatch.setattr(workers, "_SECONDS_TO_END", 0.05)
    second.asked = -1_000_000  # never ends: given up
    workers._kill([first, second])  # type: ignore[list-item]


def test_an_error_of_a_job_lets_the_others_finish(tmp_path: Path) -> None:
    fail = code(f"while not pathlib.Path({str(tmp_path / 'a')!r}).exists(): time.sleep(0.01)\nraise ValueError('mine')")
    with pytest.raises(ValueError, match="mine"):
        list(in_processes(exec, [fail, late(tmp_path / "a")], 2, "me"))
    assert (tmp_path / "a.done").exists()


PARENT = """
import sys
from grasp_agent.rollouts.workers import in_processes
job = "import os, pathlib, time; pathlib.Path(file).write_text(str(os.getpid())); time.sleep(600)"
if __name__ == "__main__":
    list(in_processes(exec, [(job, {"file": file}) for file in sys.argv[1:]], len(sys.argv) - 1, "me"))
"""


@unix
def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    """Even one that has no time to say anything."""
    script, files = tmp_path / "parent.py", [tmp_path / f"{i}.pid" for i in range(2)]
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script, *files], stderr=subprocess.DEVNULL) as parent:
        try:
            wait_for(*files)
        finally:
            parent.kill()
    end = time.monotonic() + 60
    while any(alive(int(file.read_text())) for file in files):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # What nobody waits for stays in the list of processes where the first of them does not clean up.
    return ") Z " not in (Path("/proc") / str(process) / "stat").read_text() if sys.platform == "linux" else True
