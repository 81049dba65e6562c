"""Files and folders that are written whole or not at all: neither a reader nor a crash meets half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

PREFIX = ".partial-"
"""Begins the name of what is not finished yet; the suffix is the final one, which many writers go by."""

_PROBE_BYTES = 2**20


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name, which becomes `path` once it is complete.

    On success everything written is flushed to disk and renamed; after an error the temporary file or folder is
    removed and `path` is as it was. What a killed process left under the temporary name is removed first. An existing
    file is replaced; an existing folder must be empty.

    Args:
        path: the final path; its parent folder is made if need be.

    Yields:
        The temporary path, in the same folder and with the same suffix. Nothing exists there yet.

    Raises:
        OSError: it cannot be written, for lack of space for instance; `filename` is the final path.
    """
    path = Path(path)
    temporary = path.with_name(PREFIX + path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        with _naming(path, temporary):
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush_entries(path.parent)
    finally:
        _remove(temporary)


def check_room(folder: str | Path, needed: int) -> None:
    """Check that so many bytes can still be written to a folder, which need not be there yet.

    Raises:
        OSError: its disk has less room.
    """
    folder = Path(folder)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    disk = shutil.disk_usage(there)
    if disk.total and disk.free < needed:  # what is no disk, such as /proc, has none in all
        rooms = f"about {needed / 1e6:,.1f} MB are needed, {disk.free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({rooms})", str(folder))


def check_writable(path: str | Path) -> None:
    """Try out whether `path` can be written, before long work is done for it; nothing of the trial stays.

    Raises:
        OSError: it cannot; `filename` is the path.
    """
    path = Path(path)
    temporary = path.with_name(PREFIX + path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _naming(path, temporary):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            temporary.touch()
    finally:
        _remove(temporary)


@contextmanager
def filling(folder: str | Path, last: str) -> Iterator[Path]:
    """Write several files into a temporary folder; once all are complete, each takes its place in `folder`.

    Other files of `folder` stay.

    Args:
        folder: made if need be.
        last: name of the file that takes its place after all others: the one that tells whether they fit.

    Yields:
        The temporary folder, which is empty.

    Raises:
        OSError: a file cannot be written; `filename` is the final path.
    """
    folder = Path(folder)
    temporary = folder / f"{PREFIX}files"
    folder.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        with _naming(folder, temporary):
            temporary.mkdir()
            yield temporary
            _flush(temporary)
            names = [path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()]
            for name in sorted(names, key=lambda name: (str(name) == last, name)):
                (folder / name).parent.mkdir(exist_ok=True, parents=True)
                os.replace(temporary / name, folder / name)
                _flush_entries((folder / name).parent)
    finally:
        _remove(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every system


def write_json(path: str | Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write `content` as indented JSON, see `replacing`.

    Raises:
        ValueError: NaN or infinity inside, unless allowed.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")


def _flush(path: Path) -> None:
    """Have a file, or a folder with all that is in it, on the disk itself when this returns."""
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if entry.is_dir():
            _flush_entries(entry)
        elif entry.is_file():
            with open(entry, "rb+") as handle:
                os.fsync(handle.fileno())


def _flush_entries(folder: Path) -> None:
    """Have a folder's list of files on the disk, so that a rename survives a loss of power; where the system can."""
    with suppress(OSError):  # Windows opens no folders, and some file systems flush none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of writing name the final file, also those that name none or the temporary one."""
    try:
        yield
    except Exception as error:
        # Some libraries report a full disk in words of their own, some without a number: one more write tells.
        refusal = error if isinstance(error, OSError) and error.errno is not None else _refusal(temporary)
        if refusal is None or refusal.errno is None:
            raise
        named = Path(os.fsdecode(refusal.filename2 or refusal.filename or temporary))
        if named.is_relative_to(temporary):
            named = path / named.relative_to(temporary)
        raise OSError(refusal.errno, refusal.strerror, str(named)) from error


def _refusal(temporary: Path) -> OSError | None:
    """Why nothing more can be written to a file or a folder that was not finished, if so."""
    file = temporary / "probe" if temporary.is_dir() else temporary
    try:
        if file.parent.is_dir():
            with open(file, "ab") as handle:
                handle.write(bytes(_PROBE_BYTES))
                handle.flush()
                os.fsync(handle.fileno())
    except OSError as error:
        return error
    return None


def surely(clean_up: Callable[[], None]) -> None:
    """Clean up to the end, and only then be stopped by a Ctrl-C that came meanwhile."""
    try:
        clean_up()
    except KeyboardInterrupt:
        clean_up()
        raise


def _remove(path: Path) -> None:
    surely(partial(_remove_once, path))


def _remove_once(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed processes left half written in a folder; only for who holds its lock."""
    for leftover in Path(folder).glob(f"{PREFIX}*"):
        _remove(leftover)
