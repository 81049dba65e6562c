"""Files appear whole, and an error leaves the old ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from grasp_agent.files.atomic import replacing, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "picture.png"
    with replacing(target) as temporary:
        assert (temporary.parent, temporary.suffix) == (target.parent, ".png")
        temporary.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(target.parent) == ["picture.png"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "film.gif"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="out of film"), replacing(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError("out of film")
    assert (names(tmp_path), target.read_text()) == (["film.gif"], "old")


def test_a_folder_appears_whole_and_what_a_killed_run_left_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "shard-00000"
    with replacing(target) as temporary:
        left_over = temporary
        temporary.mkdir()
        (temporary / "a").write_text("a")
    assert names(target) == ["a"]
    left_over.mkdir()
    (left_over / "left over").write_text("?")
    with replacing(tmp_path / "shard-00000" / "b") as temporary:
        temporary.write_text("b")
    assert names(target) == ["a", "b"]
    with pytest.raises(OSError, match=r"not empty|exists"), replacing(target) as temporary:
        assert not temporary.exists(), "the left over folder is removed first"
        temporary.mkdir()
    assert names(tmp_path) == ["shard-00000"], "a folder with content is not replaced"
    assert names(target) == ["a", "b"]


def test_text_and_json(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "größer\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer\n"
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None]}
    assert (tmp_path / "a.json").read_text().endswith("}\n")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"b": math.nan}, allow_nan=False)
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None]}
