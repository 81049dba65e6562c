"""Reading files that may be damaged or of someone else: within limits, and with an error that names the file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

JSON_LIMIT = 1_000_000
"""Most bytes of a file of settings."""
UNPACKED_LIMIT = 2_000_000_000
"""Most bytes that an archive may hold when it is unpacked."""
RATIO_LIMIT, SMALL = 100, 50_000_000
"""Most bytes that a byte of an archive may become, where they are more than `SMALL` in all: weights hardly shrink."""


class TooLarge(ValueError):
    """An archive that would take too much memory. The message does not name the file."""


def read_json(path: str | Path, limit: int = JSON_LIMIT) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or no JSON.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > limit:
        raise ValueError(
            f"{path}: expected a JSON file of at most {_size(limit)}, got {_size(size)}; is it another file?"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got something else ({error})") from None


def check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would become too large, before anything of it is unpacked.

    The sizes are those that the archive states: `zipfile` never unpacks more of a member than it states.

    Raises:
        TooLarge: it would.
    """
    members = archive.infolist()
    unpacked, packed = sum(one.file_size for one in members), max(1, sum(one.compress_size for one in members))
    if unpacked > UNPACKED_LIMIT:
        raise TooLarge(f"expected at most {_size(UNPACKED_LIMIT)} when unpacked, got {_size(unpacked)}")
    if unpacked > SMALL and unpacked > RATIO_LIMIT * packed:
        raise TooLarge(
            f"expected an archive that grows at most {RATIO_LIMIT} times when unpacked, got one that grows"
            f" {unpacked // packed} times, to {_size(unpacked)}"
        )


def _size(count: int) -> str:
    """Bytes in words.

    >>> _size(2_100_000)
    '2.1 MB'
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
