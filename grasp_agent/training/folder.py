"""Whose folder it is: two trainings are never mixed in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grasp_agent.files.atomic import write_json
from grasp_agent.files.reading import read_json

_LATER = {"weights", "episodes", "device", "threads"}
"""What older versions did not note."""


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Note in `out` what is trained there, so that two trainings are never mixed in one folder.

    Args:
        out: an existing folder, whose lock the caller holds.
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
        there = dict(read_json(path))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: expected the settings of a training, got something else; {advice}") from None
    there = {**{key: settings[key] for key in _LATER & settings.keys()}, **there}
    parts = sorted(key for key in there.keys() | settings.keys() if there.get(key) != settings.get(key))
    if parts:
        told = [
            f"{key} ({there.get(key)}, not {settings.get(key)})"
            if all(isinstance(one.get(key), int | str | None) for one in (there, settings))
            else key
            for key in parts
        ]
        raise ValueError(f"{path}: holds a training with another {' and '.join(told)}; {advice}")
