"""Work spread over processes, and the bar that shows how far it is: what the runner and the benchmark share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Result = TypeVar("Result")


def in_processes(
    compute: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    workers: int,
    enter: Callable[..., None],
    arguments: tuple[Any, ...],
    who: str,
) -> Iterator[Result]:
    """Compute jobs in `workers` processes; results come as they are ready.

    Args:
        compute: called with each job's arguments.
        jobs: arguments.
        workers: how many processes.
        enter: called once in each process, with `arguments`.
        arguments: of `enter`.
        who: whose error it is if a process is killed.

    Raises:
        RuntimeError: a process was killed.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), enter, arguments)
    try:
        for future in as_completed([pool.submit(compute, *job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            f"{who}: expected the worker processes to live, but one was killed (out of memory?); rows already"
            " written are kept, try again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def progress_bar(shown: bool) -> Progress:
    """A progress bar on the standard error stream."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
