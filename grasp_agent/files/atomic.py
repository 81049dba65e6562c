"""Files and folders that are written whole or not at all: neither a reader nor a crash meets half of one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PREFIX = ".partial-"
"""Begins the name of what is not finished yet; the suffix is the final one, which many writers go by."""


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
    """
    path = Path(path)
    temporary = path.with_name(PREFIX + path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            if file.is_file():
                _flush(file)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write `content` as indented JSON, see `replacing`.

    Raises:
        ValueError: NaN or infinity inside, unless allowed.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")


def _flush(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed processes left half written in a folder; only for who holds its lock."""
    for leftover in Path(folder).glob(f"{PREFIX}*"):
        _remove(leftover)
