"""Work spread over processes, none of which lives longer than the one that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_CAN_HOLD = hasattr(signal, "pthread_sigmask")
_GRACE_SECONDS = 0.2
"""How long a signal that was sent to all processes may take to arrive at the last."""
_SECONDS_TO_END = 5.0
"""How long a killed process may take to end."""

_running: set[BaseProcess] = set()
"""The worker processes of all `in_processes` that have not ended."""


def in_processes(
    compute: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    workers: int,
    who: str,
    enter: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Compute jobs in `workers` processes; results come as they are ready.

    The processes end when this one ends, whatever ends it. Ctrl-C, and a caller who wants no more results, end them at
    once and without a traceback. After an error of a job, those that are being computed are finished.

    Args:
        compute: called with each job's arguments.
        jobs: arguments.
        workers: how many processes.
        who: whose error it is if a process ends.
        enter: called once in each process, with `arguments`.
        arguments: of `enter`.

    Raises:
        RuntimeError: a process ended before its work was done; the message says how.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _enter, (enter, arguments))
    processes: set[BaseProcess] = set()
    try:
        with _holding_signals():  # the processes start now
            others = set(multiprocessing.active_children())
            pending = [pool.submit(compute, *job) for job in jobs]
            # The pool watches the processes that it knew of when it last woke up: without this, not the last one.
            pool.submit(int)
            processes |= set(multiprocessing.active_children()) - others
            _running.update(processes)
        for future in as_completed(pending):
            yield future.result()
    except BrokenProcessPool:
        pool.shutdown()
        time.sleep(_GRACE_SECONDS)  # if it was a signal to all of us, it ends this process here
        raise RuntimeError(f"{who}: expected the worker processes to live, but {_end_of(processes)}") from None
    except Exception:
        raise
    except BaseException:  # Ctrl-C, or the caller wants no more
        _kill(processes)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _running.difference_update(processes)


def end_workers() -> None:
    """End every worker process at once; for a program that is being stopped, before it cleans up."""
    _kill(_running)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _kill(processes: Iterable[BaseProcess]) -> None:
    """End processes and wait until they have; what they leave half written, nobody takes for whole."""
    processes = list(processes)
    for process in processes:
        process.kill()
    end = time.monotonic() + _SECONDS_TO_END
    # Not `join`: where the pool's own thread learns of the end first, it returns before this one may know of it.
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        time.sleep(0.005)


def _end_of(processes: Iterable[BaseProcess]) -> str:
    """How a worker ended before its time, and what to try: the end of a sentence."""
    # The pool ends the others with SIGTERM as soon as it has lost one.
    codes = sorted(
        (process.exitcode or 0 for process in processes), key=lambda code: (code == 0, code == -signal.SIGTERM)
    )
    code = codes[0] if codes else 0
    if code > 0:
        return f"one ended with exit status {code}; what is finished is kept, the same command goes on from there"
    if code == 0:
        return "one ended while it started; what is finished is kept, the same command goes on from there"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    if name == "SIGKILL":
        return (
            "one was killed with SIGKILL, perhaps because the machine ran out of memory; what is finished is kept, try"
            " again with fewer workers"
        )
    return f"one was ended by {name}; what is finished is kept, the same command goes on from there"


@contextlib.contextmanager
def _holding_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back in this process, and in those started meanwhile until `_enter`."""
    before: Sequence[Any] | set[Any] = ()
    if _CAN_HOLD:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        if _CAN_HOLD:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(enter: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if _CAN_HOLD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if enter:
        enter(*arguments)


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, which closes a pipe between them, and end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
