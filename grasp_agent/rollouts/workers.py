"""Work spread over processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def in_processes(
    compute: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    workers: int,
    who: str,
    enter: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Compute jobs in `workers` processes; results come as they are ready.

    Ctrl-C, which a terminal sends to all processes, ends the workers at once and without a traceback.

    Args:
        compute: called with each job's arguments.
        jobs: arguments.
        workers: how many processes.
        who: whose error it is if a process is killed.
        enter: called once in each process, with `arguments`.
        arguments: of `enter`.

    Raises:
        RuntimeError: a process was killed.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _enter, (enter, arguments))
    try:
        with _holding_interrupts():  # the processes start now
            pending = [pool.submit(compute, *job) for job in jobs]
        for future in as_completed(pending):
            yield future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            f"{who}: expected the worker processes to live, but one was killed (out of memory?); what is finished is"
            " kept, try again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_CAN_HOLD = hasattr(signal, "pthread_sigmask")


@contextlib.contextmanager
def _holding_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back in this process, and in those started meanwhile until `_enter`."""
    if _CAN_HOLD:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if _CAN_HOLD:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _enter(enter: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _CAN_HOLD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if enter:
        enter(*arguments)
