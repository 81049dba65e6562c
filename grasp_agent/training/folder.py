"""The folder of a training: whose it is, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Note in `out` what is trained there, so that two trainings are never mixed in one folder.

    Args:
        out: an existing folder.
        settings: all that a resumed training must share with the one that began, JSON-serialisable.

    Raises:
        ValueError: the folder holds another training.
    """
    settings = json.loads(json.dumps(settings))  # as they will be read back
    path = out / "training.json"
    if not path.is_file():
        write_json(path, settings)
        return
    advice = "choose a new output folder"
    try:
        there = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: expected the settings of a training, got something else; {advice}") from None
    if there != settings:
        parts = sorted(k for k in there.keys() | settings.keys() if there.get(k) != settings.get(k))
        raise ValueError(f"{out}: holds a training with another {' and '.join(parts)}; {advice}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` once that is done."""
    temporary = path.with_name(f".partial-{path.name}")
    yield temporary
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write text, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, see `replacing`."""
    write_text(path, json.dumps(content, indent=2) + "\n")
