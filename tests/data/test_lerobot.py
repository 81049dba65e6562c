"""LeRobot data sets: a small one of every kind is made by hand and read."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from grasp_agent.data import EpisodeDataset, convert
from grasp_agent.data.dataset import read_meta
from grasp_agent.data.foreign.lerobot import LeRobotSource

pyarrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
parquet: Any = pytest.importorskip("pyarrow.parquet")

LENGTHS = (4, 3, 5)
FRAMES = sum(LENGTHS)
SIDE = 32
KEY = "observation.image"
FILE_OF_EPISODE = (0, 0, 1)
"""Two files of rows, and two films: the first two episodes share one."""


def shades() -> np.ndarray:
    """Plain grey pictures, each of a shade of its own that compression hardly changes, [F, H, W, 3]."""
    return np.broadcast_to((20 + 18 * np.arange(FRAMES, dtype=np.uint8))[:, None, None, None], (FRAMES, SIDE, SIDE, 3))


def actions() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 512, (FRAMES, 2)).astype(np.float32)


def write(folder: Path, pictures: str = "video", **changes: Any) -> Path:
    """A data set in the published layout.

    Args:
        folder: where.
        pictures: "video", "image" (in the rows), "path" (files beside them) or "" for none.
        changes: other columns of the rows, by name; None leaves one out.
    """
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    columns: dict[str, Any] = {
        "observation.state": np.stack([np.arange(FRAMES), -np.arange(FRAMES)], axis=1).astype(np.float32),
        "action": actions(),
        "next.reward": np.arange(FRAMES, dtype=np.float32) / 10,
        "episode_index": episode,
        "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
        "index": np.arange(FRAMES),
    }
    columns = {name: column for name, column in {**columns, **changes}.items() if column is not None}
    features: dict[str, Any] = {
        name: {"dtype": str(column.dtype), "shape": list(column.shape[1:]) or [1], "names": None}
        for name, column in columns.items()
    }
    if pictures:
        features[KEY] = {"dtype": "video" if pictures == "video" else "image", "shape": [SIDE, SIDE, 3], "names": None}
    for name, text in (
        ("info.json", {"codebase_version": "v3.0", "fps": 10, "features": features, "total_episodes": len(LENGTHS)}),
        ("stats.json", {}),
    ):
        (folder / "meta").mkdir(parents=True, exist_ok=True)
        (folder / "meta" / name).write_text(json.dumps(text))

    for file in (0, 1):
        # Rows need not be in the order of time.
        there = np.flatnonzero(np.isin(episode, np.flatnonzero(np.array(FILE_OF_EPISODE) == file)))[::-1]
        rows: dict[str, Any] = {
            name: list(column[there]) if column.ndim > 1 else column[there] for name, column in columns.items()
        }
        if pictures == "image":
            rows[KEY] = [{"bytes": png(shades()[i]), "path": None} for i in there]
        if pictures == "path":
            rows[KEY] = [{"bytes": None, "path": f"images/{i}.png"} for i in there]
        path = folder / "data" / "chunk-000" / f"file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(rows), path)
        if pictures == "video":
            film = folder / "videos" / KEY / "chunk-000" / f"file-{file:03d}.mp4"
            film.parent.mkdir(parents=True, exist_ok=True)
            with imageio.get_writer(film, fps=10, codec="libx264", quality=10) as writer:
                for i in sorted(there):
                    writer.append_data(shades()[i])
    if pictures == "path":
        (folder / "images").mkdir()
        for i in range(FRAMES):
            (folder / "images" / f"{i}.png").write_bytes(png(shades()[i]))

    told: dict[str, Any] = {
        "episode_index": list(range(len(LENGTHS))),
        "tasks": [["push"]] * len(LENGTHS),
        "length": LENGTHS,
        "data/chunk_index": [0] * len(LENGTHS),
        "data/file_index": FILE_OF_EPISODE,
    }
    if pictures == "video":
        told |= {f"videos/{KEY}/chunk_index": [0] * 3, f"videos/{KEY}/file_index": FILE_OF_EPISODE}
        told[f"videos/{KEY}/from_timestamp"] = [0.0, LENGTHS[0] / 10, 0.0]
    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(told).take([2, 0, 1]), path)
    return folder


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def read(folder: Path, out: Path, **options: Any) -> EpisodeDataset:
    convert(f"lerobot:{folder}", out, **{"action_bounds": (0, 512), "resolution": SIDE, **options})
    return EpisodeDataset(out)


LAST = np.cumsum(LENGTHS) - 1


@pytest.mark.parametrize("pictures", ["video", "image", "path"])
def test_pictures_actions_and_rewards_are_read(pictures: str, tmp_path: Path) -> None:
    data = read(write(tmp_path / "theirs", pictures), tmp_path / "out", shard_steps=4)
    assert data.lengths.tolist() == list(LENGTHS) and len(list((tmp_path / "out").glob("shard-*"))) == 2
    frames = data.frames(np.arange(FRAMES)).astype(int)
    assert np.abs(frames - shades()).max() <= (4 if pictures == "video" else 0)
    wanted, rewards = actions() / 256 - 1, np.arange(FRAMES) / 10
    wanted[LAST], rewards[LAST] = 0, 0  # what they led to is not known
    np.testing.assert_allclose(data.actions, wanted, atol=1e-6)
    np.testing.assert_allclose(data.rewards, rewards, atol=1e-6)
    assert data.terminated is not None and not data.terminated.any()
    steps = np.arange(FRAMES)
    np.testing.assert_array_equal(data.proprio, np.stack([steps, -steps], axis=1))  # observation.state
    meta = read_meta(tmp_path / "out")
    assert meta["centred_actions"] is True
    assert meta["settings"]["source"] == "lerobot:theirs" and meta["settings"]["env_ids"] == []


def test_an_environment_tells_what_actions_mean(tmp_path: Path) -> None:
    """Push-T's published demonstrations give places from 0 to 512."""
    env = {"env_id": "grasp_envs:grasp_envs/PushT-v0", "env_kwargs": {"control": "absolute"}}
    data = read(write(tmp_path / "theirs"), tmp_path / "out", action_bounds=(), **env)
    np.testing.assert_allclose(data.actions[:3], actions()[:3] / 256 - 1, atol=1e-6)
    assert data.settings[0]["env_ids"] == [env["env_id"]] and data.settings[0]["centred_actions"] is True
    assert data.settings[0]["env_kwargs"] == [["control", "absolute"]]


def test_without_pictures_vectors_are_recorded(tmp_path: Path) -> None:
    """All of them, in the order of their names; the only observation of a length that is no list, too."""
    speed = np.linspace(-1, 1, FRAMES, dtype=np.float32)
    changes = {"observation.speed": speed, "next.reward": None, "action": actions() / 512}
    data = read(write(tmp_path / "theirs", "", **changes), tmp_path / "out", action_bounds=())
    steps = np.arange(FRAMES, dtype=np.float32)
    np.testing.assert_array_equal(data.vectors, np.stack([speed, steps, -steps], axis=1))
    np.testing.assert_allclose(data.actions[:3], actions()[:3] / 512, atol=1e-6)
    assert "centred_actions" not in data.settings[0]
    assert data.rewards is None and data.terminated is None


def test_a_stopped_conversion_goes_on_with_the_right_frames(tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs")
    whole = read(folder, tmp_path / "out", shard_steps=2)
    before = whole.frames(np.arange(FRAMES)).copy()
    shard = tmp_path / "out" / "shard-00001"
    for file in shard.iterdir():
        file.unlink()
    shard.rmdir()
    again = read(folder, tmp_path / "out", shard_steps=2)
    np.testing.assert_array_equal(again.frames(np.arange(FRAMES)), before)


def test_frames_of_a_film_are_found_in_any_order(tmp_path: Path) -> None:
    source = LeRobotSource(write(tmp_path / "theirs"), SIDE, None, None, {}, (0, 512))
    with closing(source):
        for episode in (1, 0, 2, 1):
            first, count = sum(LENGTHS[:episode]), LENGTHS[episode]
            wanted = shades()[first : first + count].astype(int)
            assert np.abs(source.episode(episode)["frames"] - wanted).max() <= 4


def test_one_of_several_pictures_is_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs", "image")
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"]["observation.wrist"] = info["features"][KEY]
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=f"got {KEY}, observation.wrist; choose one with --picture-key"):
        read(folder, tmp_path / "out")
    assert len(read(folder, tmp_path / "out", picture_key=KEY)) == FRAMES


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        ("", {"action_bounds": ()}, "or to be told their bounds, which the format does not tell, got actions from"),
        ("", {"env_id": "CartPole-v1", "action_bounds": ()}, "expected an environment with 2 numbers in an action"),
        ("", {"env_id": "CartPole-v1"}, "action bounds: expected none beside an environment"),
        ("", {"picture_key": "eye"}, "expected a picture under 'eye', got pictures under observation.image"),
        ("meta/info.json", {}, "expected a LeRobot data set with meta/info.json, found none"),
        ("meta/episodes/chunk-000/file-000.parquet", {}, "expected meta/episodes/chunk-*/file-*.parquet, found none"),
        ("data/chunk-000/file-000.parquet", {}, "expected a parquet file, found none"),
        ("videos/observation.image/chunk-000/file-000.mp4", {}, "expected a video, found no such file"),
        ("version", {}, "expected LeRobot data of version v3, got v2.1"),
        ("features", {}, "expected 'features', each with its shape, and 'fps' above 0"),
        ("long", {}, "expected at least 20 frames, got 7; is the file complete?"),
        ("cut", {}, "expected a whole parquet file, got a damaged one"),
        ("no film", {}, "expected a video that ffmpeg reads, got another file"),
        ("no column", {}, "expected the columns"),
        ("wide", {}, "meta/info.json: expected a path such as 'data/"),
    ],
)
def test_mistakes_are_one_sentence(damage: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs")
    info_path, rows_path = folder / "meta" / "info.json", folder / "data" / "chunk-000" / "file-000.parquet"
    told_path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    info = json.loads(info_path.read_text())
    if damage in ("version", "features"):
        info |= {"codebase_version": "v2.1"} if damage == "version" else {"features": {"action": 3}}
        info_path.write_text(json.dumps(info))
    elif damage == "long":
        told = parquet.read_table(told_path).to_pydict()
        told["length"] = [5, 20, 3]
        parquet.write_table(pyarrow.table(told), told_path)
    elif damage == "wide":  # a path as long as the memory
        info_path.write_text(json.dumps({**info, "data_path": "{chunk_index:0999999999d}"}))
    elif damage == "cut":
        rows_path.write_bytes(rows_path.read_bytes()[:100])
    elif damage == "no film":
        (folder / "videos" / KEY / "chunk-000" / "file-000.mp4").write_bytes(b"no film" * 100)
    elif damage == "no column":
        parquet.write_table(parquet.read_table(rows_path).drop_columns(["action"]), rows_path)
    elif damage:
        (folder / damage).unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(folder, tmp_path / "out", **options)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not (tmp_path / "out").exists()


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"need the package pyarrow: pip install 'grasp-agent\[lerobot\]'"):
        convert(f"lerobot:{tmp_path}", tmp_path / "out")
    assert not (tmp_path / "out").exists()
