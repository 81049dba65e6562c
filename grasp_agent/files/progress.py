"""Progress bars in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def progress_bar(shown: bool) -> Progress:
    """A progress bar on the standard error stream, for work of which the caller counts the parts."""
    return Progress(*_BAR, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown)


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int, str], None]]:
    """While it lasts, what it gives shows (name, done, total, note), with a bar for each name."""
    bars: dict[str, TaskID] = {}
    columns = (*_BAR, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console) as progress:

        def show(name: str, done: int, total: int, note: str) -> None:
            if name not in bars:
                # Work that an earlier run did is no measure of this one's speed: the bar begins behind it.
                bars[name] = progress.add_task(name, total=total, completed=done, note=note)
            progress.update(bars[name], completed=done, note=note)

        yield show
