"""One writer per output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from grasp_agent.files.atomic import surely

LOCK_NAME, HOLDER_NAME = ".lock", ".lock-holder"


@contextmanager
def locked(folder: str | Path) -> Iterator[Path]:
    """Hold a folder, made if need be, for writing. The operating system releases it when the process ends, however.

    A folder that was made and in which nothing was written goes again: where a mistake shows late, no trace stays.

    Raises:
        RuntimeError: another run holds it.
        OSError: it cannot be written. Errors of what is done meanwhile name the folder if they name no file.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK_NAME), folder / HOLDER_NAME
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"{folder}: expected a folder that no other run writes to, but {_holder(holder)} does; wait until it has"
            " ended, or use another folder"
        ) from None
    try:
        with suppress(OSError):  # a courtesy: on a full disk what is really to be written will tell
            holder.write_text(str(os.getpid()))
        yield folder
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        surely(partial(_release, lock, holder))
        with suppress(OSError):  # not empty, or somebody else's by now
            for place in made:
                place.rmdir()


def _release(lock: FileLock, holder: Path) -> None:
    for file in (holder, Path(lock.lock_file)):  # on Windows the latter goes with the lock
        with suppress(OSError):
            file.unlink()
    lock.release()


def _holder(file: Path) -> str:
    try:
        return f"process {int(file.read_text())}"
    except (OSError, ValueError):
        return "another process"
