"""The folder of a training: whose it is, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
