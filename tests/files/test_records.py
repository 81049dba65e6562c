"""Rows on disk: written once per job, merged, put in order, and never mixed with those of other settings."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from grasp_agent.files import records
from grasp_agent.files.atomic import write_json, write_text
from grasp_agent.files.records import Records, as_columns, columns


@dataclass(frozen=True)
class Shot:
    player: str
    goal: int
    total: float = field(metadata={"column": "return"})
    steps: int | None = None
    cost: float | None = None


SETTINGS: dict[str, Any] = {"model": "a1", "batch": 2, "players": {"x": {"reach": 1.5, "seed": 0}}}


def shot(player: str, goal: int, **changes: Any) -> Shot:
    return replace(Shot(player, goal, total=goal / 3), **changes)


def opened(folder: Path, **changes: Any) -> Records[Shot]:
    return Records(folder, "open", Shot, {**SETTINGS, **changes}, extendable=["players"])


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "open.parts").iterdir())


def order(row: Shot) -> Any:
    return row.goal, row.player


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_written_and_read_back_are_the_same(tmp_path: Path) -> None:
    rows = [shot("x", 1), shot('y, "z"\n', 2, steps=3, cost=math.pi), shot("ä", 3, total=math.inf, cost=1e-300)]
    opened(tmp_path).append(rows)
    assert opened(tmp_path).rows == rows
    assert columns(Shot) == ["player", "goal", "return", "steps", "cost"]
    assert as_columns(rows[0]) == {"player": "x", "goal": 1, "return": 1 / 3, "steps": None, "cost": None}


def test_every_job_has_a_file_of_its_own_that_is_never_written_again(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("x", 1), shot("x", 2)])
    (first,) = parts(tmp_path)
    before = first.stat().st_mtime_ns
    records.append([shot("y", 1)])
    resumed = opened(tmp_path)
    resumed.append([shot("y", 2)])
    assert [part.name[:7] for part in parts(tmp_path)] == [f"00000{i}-" for i in range(3)]
    assert first.stat().st_mtime_ns == before
    assert [(row.player, row.goal) for row in resumed.rows] == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]


def test_finishing_merges_in_order_and_removes_the_parts(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("y", 2), shot("x", 2)])
    records.append([shot("y", 1, steps=7)])
    rows = records.finish(order, summary={"best": 7})
    assert [(row.goal, row.player) for row in rows] == [(1, "y"), (2, "x"), (2, "y")]
    with open(tmp_path / "open.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["player", "goal", "return", "steps", "cost"],
        ["y", "1", str(1 / 3), "7", ""],
        ["x", "2", str(2 / 3), "", ""],
        ["y", "2", str(2 / 3), "", ""],
    ]
    content = json.loads((tmp_path / "open.json").read_text())
    assert content["settings"] == SETTINGS and content["summary"] == {"best": 7} and "python" in content["versions"]
    assert sorted(files(tmp_path)) == ["open.csv", "open.json"]
    before = files(tmp_path)
    assert opened(tmp_path).rows == rows
    assert files(tmp_path) == before, "looking at a finished run changes nothing"


def test_a_finished_run_takes_more_rows(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("x", 2)])
    records.finish(order)
    more = opened(tmp_path)
    more.append([shot("x", 1)])
    assert [row.goal for row in opened(tmp_path).rows] == [2, 1]
    assert [row.goal for row in opened(tmp_path).finish(order)] == [1, 2]


def test_a_run_killed_while_it_merged_has_no_row_twice(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("x", 1, cost=math.nan), shot("x", 2)])
    (part,) = parts(tmp_path)
    content = part.read_bytes()
    records.finish(order)
    (tmp_path / "open.parts").mkdir()
    part.write_bytes(content)
    (tmp_path / "open.parts" / ".partial-000001.csv").write_text("player,go")
    assert [row.goal for row in opened(tmp_path).rows] == [1, 2]


def test_what_is_missing(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("x", 1, steps=3), shot("x", 3, steps=4), shot("y", 2, steps=3)])
    assert records.missing("goal", [3, 2, 1, 0], player="x") == [2, 0]
    assert records.missing("goal", [3, 2, 1], player="x", steps=3) == [3, 2]
    assert records.missing("goal", [2], player="z") == [2]
    assert records.where(player="y") == [shot("y", 2, steps=3)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "b2"}, "model"),
        ({"model": "b2", "batch": 3}, "model and batch"),
        ({"players": {"x": {"reach": 2.0, "seed": 0}}}, r"players\.x\.reach"),
        ({"players": {"x": {"reach": 1.5}}}, r"players\.x\.seed"),
        ({"objective": "new"}, "objective"),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_lost(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    opened(tmp_path).append([shot("x", 1)])
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"same settings to continue, got one with other {named}; use another folder"):
        opened(tmp_path, **changes)
    assert files(tmp_path) == before


def test_a_setting_that_is_left_out_is_missed(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ValueError, match="other batch;"):
        Records(tmp_path, "open", Shot, {"model": "a1", "players": SETTINGS["players"]}, extendable=["players"])


def test_entries_can_be_added_and_the_old_ones_stay_first(tmp_path: Path) -> None:
    opened(tmp_path).append([shot("x", 1)])
    new = {"reach": 3.0}
    assert list(opened(tmp_path, players={"y": new}).settings["players"]) == ["x", "y"]
    again = opened(tmp_path, players={"y": new, "x": SETTINGS["players"]["x"]})
    assert again.settings["players"] == {"x": SETTINGS["players"]["x"], "y": new}
    assert json.loads((tmp_path / "open.json").read_text())["settings"] == again.settings
    with pytest.raises(ValueError, match=r"players\.y\.reach"):
        opened(tmp_path, players={"y": {"reach": 4.0}})


def test_a_list_can_be_made_longer_and_nothing_else(tmp_path: Path) -> None:
    def longer(goals: list[int], lack: str | None = None) -> Records[Shot]:
        settings = {**SETTINGS, "goals": goals}
        return Records(tmp_path, "open", Shot, settings, ["goals"], lacking=lambda rows, settings: lack)

    longer([1, 2]).append([shot("x", 1)])
    assert longer([1, 2, 3]).rows == [shot("x", 1)]
    before = files(tmp_path)
    for other in ([1, 2], [2, 1, 3, 4], []):
        with pytest.raises(ValueError, match="got one with other goals"):
            longer(other)
    with pytest.raises(ValueError, match="not yet"):
        longer([1, 2, 3, 4], lack="not yet")
    assert files(tmp_path) == before
    assert json.loads((tmp_path / "open.json").read_text())["settings"]["goals"] == [1, 2, 3]


def test_stages_share_a_folder(tmp_path: Path) -> None:
    opened(tmp_path).append([shot("x", 1)])
    closed = Records(tmp_path, "closed", Shot, {"model": "other"})
    closed.append([shot("x", 2)])
    assert [row.goal for row in opened(tmp_path).rows] == [1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open.json", "{"),
        ("open.json", "[]"),
        ("open.csv", "player,goal\nx,0\n"),
        ("open.csv", "player,goal,return,steps,cost\nx,one,1,,\n"),
        ("part", ""),
        ("part", "goal,player\n"),
        ("part", "player,goal,return,steps,cost\nx,1\n"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    opened(tmp_path).append([shot("x", 1)])
    (parts(tmp_path)[0] if name == "part" else tmp_path / name).write_text(content)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"expected open.json and open.csv of an earlier run.*use another") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value) and files(tmp_path) == before


def test_rows_without_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "open.csv").write_text("somebody's own data\n")
    with pytest.raises(ValueError, match="cannot be read"):
        opened(tmp_path)
    assert (tmp_path / "open.csv").read_text() == "somebody's own data\n"


HEADER = "player,goal,return,steps,cost\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open.json", b"[]"),
        ("open.json", b"{}"),
        ("open.json", b'{"settings": []}'),
        ("open.json", b'{"settings": {"players": []}}'),
        ("open.json", b'{"settings": {"players": null}}'),
        ("open.json", b"[" * 100_000),
        ("open.json", b"\xff\xfe"),
        ("open.csv", b""),
        ("open.csv", HEADER.encode() + b"x,1,2.0,\x00,\n"),
        ("open.csv", HEADER.encode() + b"x,1\n"),
        ("open.csv", HEADER.encode() + b"x,one,2.0,,\n"),
        ("open.csv", HEADER.encode() + b"x" * 200_000 + b",1,2.0,,\n"),
        ("open.csv", HEADER.encode() + b"x," + b"9" * 10_000 + b",2.0,,\n"),
        ("open.csv", b"\xff"),
    ],
)
def test_damaged_files_are_one_sentence_and_stay_as_they_are(tmp_path: Path, name: str, content: bytes) -> None:
    finished = opened(tmp_path)
    finished.append([shot("x", 1)])
    finished.finish(order)
    (tmp_path / name).write_bytes(content)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="of an earlier run, got files that cannot be read") as caught:
        opened(tmp_path)
    assert files(tmp_path) == before and len(str(caught.value)) < 600


def test_a_description_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path)
    monkeypatch.setattr(records, "_JSON_LIMIT", 100)
    with pytest.raises(ValueError, match=r"open\.json: expected a JSON file of at most 100 bytes, got \d+ bytes"):
        opened(tmp_path)


def test_files_that_are_no_parts_are_left_alone(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.append([shot("x", 1)])
    (tmp_path / "open.parts" / "0 copy.csv").write_text("?")
    again = opened(tmp_path)
    again.append([shot("x", 2)])
    assert [row.goal for row in opened(tmp_path).rows] == [1, 2]


# ---- what was changed since -----------------------------------------------------------------------------------


def finished(folder: Path, **changes: Any) -> Path:
    records = opened(folder, **changes)
    records.append([shot("x", 1), shot("x", 2)])
    records.finish(order)
    return folder


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"), [("x,1,", "x,3,"), ("0.66", "0.67"), ("x,2", "x,1"), ("player", "player"), ("\n", "\r\n")]
)
def test_a_changed_table_is_refused_by_its_name(tmp_path: Path, old: str, new: str) -> None:
    finished(tmp_path)
    edited(tmp_path / "open.csv", old, new)
    before = files(tmp_path)
    if old == new:
        assert len(opened(tmp_path).rows) == 2
    else:
        with pytest.raises(ValueError, match=r"open\.csv: expected the file that the earlier run wrote") as caught:
            opened(tmp_path)
        assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


def test_a_changed_part_is_refused_and_a_missing_one_is_made_again(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.append([shot("x", 1)])
    records.append([shot("x", 2)])
    first, second = parts(tmp_path)
    first.unlink()
    assert [row.goal for row in opened(tmp_path).rows] == [2]
    edited(second, "x,2", "x,4")
    with pytest.raises(ValueError, match=rf"{second.name}: expected the file that the earlier run wrote"):
        opened(tmp_path)


def test_entries_that_nobody_added_are_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    edited(tmp_path / "open.json", '"players": {', '"players": {"nobody": {},')
    with pytest.raises(ValueError, match=r"open\.json: expected the file that the earlier run wrote"):
        opened(tmp_path)


@pytest.mark.parametrize("noted", [5, [], None, {"settings": 3}, {"open.csv": 5}, {"open.csv": {}}])
def test_digests_of_another_kind_are_no_digests(tmp_path: Path, noted: Any) -> None:
    finished(tmp_path)
    content = json.loads((tmp_path / "open.json").read_text())
    (tmp_path / "open.json").write_text(json.dumps({**content, "sha256": noted}))
    with pytest.raises(ValueError, match="expected the file that the earlier run wrote"):
        opened(tmp_path)


def test_files_of_older_versions_have_no_digests_and_go_on(tmp_path: Path) -> None:
    finished(tmp_path)
    content = json.loads((tmp_path / "open.json").read_text())
    del content["sha256"]
    (tmp_path / "open.json").write_text(json.dumps(content))
    records = opened(tmp_path)
    records.append([shot("x", 3)])
    records.finish(order)
    assert len(opened(tmp_path).rows) == 3
    assert "open.csv" in json.loads((tmp_path / "open.json").read_text())["sha256"]


def test_a_run_killed_at_any_moment_of_its_end_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of description, table and parts is already new."""
    finished(tmp_path / "whole")
    more = opened(tmp_path / "whole")
    more.append([shot("y", 1)])
    more.finish(order, summary=3)
    for writes in range(5):
        folder = finished(tmp_path / str(writes))
        left = [writes]

        def killed(path: Path, *content: Any, left: list[int] = left, **options: Any) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            (write_text if path.suffix == ".csv" else write_json)(path, *content, **options)

        with monkeypatch.context() as patch:
            patch.setattr(records, "write_text", killed)
            patch.setattr(records, "write_json", killed)
            again = opened(folder)
            try:
                again.append([shot("y", 1)])
                again.finish(order, summary=3)
            except KeyboardInterrupt:
                assert writes < 4
        again = opened(folder)
        if again.missing("player", ["y"]):
            again.append([shot("y", 1)])
        again.finish(order, summary=3)
        assert files(folder) == files(tmp_path / "whole")


def test_rows_that_do_not_suit_are_named_before_anything_is_written(tmp_path: Path) -> None:
    def misfit(row: Shot, settings: Any) -> str | None:
        return None if row.player in settings["players"] else f"expected x, got {row.player}"

    records = opened(tmp_path)
    records.append([shot("x", 1), shot("z", 2)])
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"open\.parts/000000-\w+\.csv: expected x, got z; put the file back"):
        Records(tmp_path, "open", Shot, SETTINGS, ["players"], misfit)
    records.append([shot("x", 1, steps=9)])
    with pytest.raises(ValueError, match=r"000001-\w+\.csv: expected one row of a kind, got two that differ \(x, 1"):
        Records(tmp_path, "open", Shot, SETTINGS, ["players"], key=lambda row: (row.player, row.goal))
    assert {name: files(tmp_path)[name] for name in before} == before


def test_without_settings_those_of_the_folder_are_taken(tmp_path: Path) -> None:
    finished(tmp_path)
    before = files(tmp_path)
    records = Records(tmp_path, "open", Shot, None, ["players"])
    assert records.settings == SETTINGS and len(records.rows) == 2 and files(tmp_path) == before
