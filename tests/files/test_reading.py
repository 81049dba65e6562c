"""Reading what may be damaged: within limits, and with the file's name in every error."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from grasp_agent.files import reading
from grasp_agent.files.reading import TooLarge, check_archive, read_json


def test_json_is_read_up_to_a_size(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"größe": 1}), encoding="utf-8")
    assert read_json(file) == {"größe": 1}
    file.write_bytes(b" " * 999_999 + b"1")
    assert read_json(file) == 1
    file.write_bytes(b" " * 2_100_000 + b"1")
    with pytest.raises(ValueError, match=r"config\.json: expected a JSON file of at most 1 MB, got 2\.1 MB"):
        read_json(file)


@pytest.mark.parametrize("content", [b"", b"{", b"\x00", b"\xff\xff", b"[" * 200_000, b"9" * 10_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: expected JSON, got something else"):
        read_json(tmp_path / "a.json")


def archive(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipFile:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        written.writestr("a", content)
    return zipfile.ZipFile(file)


def test_archives_have_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SMALL", 100_000)
    check_archive(archive(bytes(100_000)))
    check_archive(archive(bytes(200_000), zipfile.ZIP_STORED))
    with pytest.raises(
        TooLarge, match=r"grows at most 100 times when unpacked, got one that grows \d+ times, to 200 kB"
    ):
        check_archive(archive(bytes(200_000)))
    monkeypatch.setattr(reading, "UNPACKED_LIMIT", 150_000)
    with pytest.raises(TooLarge, match=r"expected at most 150 kB when unpacked, got 200 kB"):
        check_archive(archive(bytes(200_000), zipfile.ZIP_STORED))


def test_the_limits_are_those_that_are_told() -> None:
    assert (reading.UNPACKED_LIMIT, reading.JSON_LIMIT, reading.RATIO_LIMIT) == (2_000_000_000, 1_000_000, 100)
