"""Files appear whole, and an error leaves the old ones."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from grasp_agent.files import atomic
from grasp_agent.files.atomic import check_room, filling, replacing, write_json, write_text


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


def test_files_of_a_folder_take_their_places_together_and_one_of_them_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_text("stays")
    (tmp_path / "list.json").write_text("old")
    placed: list[str] = []

    def replace(source: Path, target: Path) -> None:
        placed.append(target.name)
        os.rename(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    with filling(tmp_path, last="list.json") as temporary:
        (temporary / "part").mkdir()
        for name in ("list.json", "part/zero", "weights"):
            (temporary / name).write_text("new")
        assert (tmp_path / "list.json").read_text() == "old"
    assert placed == ["zero", "weights", "list.json"]
    assert names(tmp_path) == ["list.json", "old", "part", "weights"]
    with pytest.raises(RuntimeError, match="out of ink"), filling(tmp_path, last="list.json") as temporary:
        (temporary / "list.json").write_text("half")
        raise RuntimeError("out of ink")
    assert (tmp_path / "list.json").read_text() == "new" and names(tmp_path) == ["list.json", "old", "part", "weights"]


def test_files_and_the_folders_that_name_them_are_flushed_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = os.fsync, os.replace

    def fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        flush(handle)

    def replace(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    monkeypatch.setattr(atomic.os, "replace", replace)
    write_text(tmp_path / "a.txt", "a")
    assert done == ["file", "rename", "folder"]
    done.clear()
    with replacing(tmp_path / "shard") as temporary:
        temporary.mkdir()
        (temporary / "b").write_text("b")
    assert done == ["folder", "file", "rename", "folder"]


def test_errors_of_writing_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    with pytest.raises(OSError, match="No space left") as caught, replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write that finds no space does
    assert (caught.value.filename, caught.value.errno) == (str(target), errno.ENOSPC)
    with pytest.raises(FileNotFoundError) as missing, replacing(target) as temporary:
        (temporary / "a").read_text()
    assert missing.value.filename == str(target / "a")
    with pytest.raises(FileNotFoundError) as other, replacing(target):
        (tmp_path / "other").read_text()
    assert other.value.filename == str(tmp_path / "other")
    assert names(tmp_path) == []


FULL = """
import errno, resource, sys
import torch
from pathlib import Path
from grasp_agent.files.atomic import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a disk that takes no more than this
try:
    with replacing(sys.argv[1]) as temporary:
        torch.save(torch.zeros(1_000_000), temporary)
except OSError as error:
    print(error.filename, errno.errorcode[error.errno])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to set")
def test_a_library_that_reports_a_full_disk_in_its_own_words_is_understood(tmp_path: Path) -> None:
    target = tmp_path / "encoder.pt"
    run = subprocess.run([sys.executable, "-c", FULL, str(target)], capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == (f"{target} EFBIG\n", 0), run.stderr
    assert names(tmp_path) == []


def test_room_is_looked_for_where_a_folder_will_be(tmp_path: Path) -> None:
    check_room(tmp_path / "not" / "there", 1000)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match=r"about .* MB are needed, .* MB are free") as caught:
        check_room(tmp_path / "not" / "there", 2 * free)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("write", [write_text, write_json])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OSError) as caught:
        write(tmp_path / "file" / "new", "x")
    assert str(caught.value.filename).startswith(str(tmp_path / "file"))
