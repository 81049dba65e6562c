"""Videos: frame count, rate, layout, and nothing left behind."""

from __future__ import annotations

import re
import subprocess
from dataclasses import astuple
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from dot_world import ENV_ID, LIMIT, DotModel, register
from gymnasium import spaces
from PIL import Image

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.evaluation import evaluate, record_video
from grasp_agent.planning import GradientDescent, MultiStart

register()
FPS = 10
FRAMES = LIMIT + 1 + FPS  # every step, the start, and a second of standing still


def make_agent() -> MPCAgent:
    square = spaces.Box(-1.0, 1.0, (2,), np.float32)
    return MPCAgent(
        DotModel(), square, MultiStart(GradientDescent(), restarts=2), horizon=4, budget=Budget(iterations=8)
    )


def decode(path: Path) -> tuple[np.ndarray, float]:
    """Frames [n, height, width, 3] of a video, and its frames per second."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    text = run.stderr.decode()
    size, rate = re.search(r"(\d+)x(\d+)[, ]", text), re.search(r"([\d.]+) fps", text)
    assert size is not None
    assert rate is not None
    width, height = int(size[1]), int(size[2])
    return np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3), float(rate[1])


def test_mp4_shows_everyone_side_by_side_at_the_environments_rate(tmp_path: Path) -> None:
    path = tmp_path / "new" / "race.mp4"
    entrants = {"gd from pixels": make_agent(), "zero": "zero"}
    rows = record_video(entrants, ENV_ID, [3, 4], path, panel_size=96)
    frames, rate = decode(path)
    assert rate == FPS
    assert len(frames) == 2 * FRAMES
    height, width, _ = frames[0].shape
    assert height % 16 == width % 16 == 0
    assert width >= 2 * 96
    # The second entrant stands still, the first one does not.
    before, after = frames[1].astype(int), frames[LIMIT].astype(int)
    change = np.abs(after - before)[20:116].mean(axis=(0, 2))
    assert change[:100].mean() > 5 * change[105:200].mean()
    assert [entry.name for entry in path.parent.iterdir()] == ["race.mp4"]
    assert [(row.entrant, row.episode) for row in rows] == [(n, e) for e in range(2) for n in entrants]
    assert rows[0].success == 1


def test_filmed_episodes_are_those_of_evaluate(tmp_path: Path) -> None:
    filmed = record_video({"gd": make_agent()}, ENV_ID, [3], tmp_path / "a.gif", panel_size=64)
    played = evaluate({"gd": make_agent()}, ENV_ID, [3], progress=False).rows
    assert astuple(filmed[0])[:-2] == astuple(played[0])[:-2]


def test_gif_has_the_environments_rate_and_marks_success(tmp_path: Path) -> None:
    path = tmp_path / "race.gif"
    rows = record_video({"expert": "expert"}, ENV_ID, [3], path, panel_size=96)
    assert rows[0].steps_to_success is not None
    with Image.open(path) as film:
        durations, greens = [], []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
            pixels = np.asarray(film.convert("RGB")).astype(int)[116:]
            greens.append(bool(((pixels[..., 1] - pixels[..., 0] > 60) & (pixels[..., 1] - pixels[..., 2] > 30)).any()))
    assert sum(durations) == FRAMES * 1000 // FPS
    assert not greens[0]
    assert greens[-1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["film.avi", "film"])
def test_other_formats_are_refused_before_anything_is_played(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"ending in .mp4 or .gif"):
        record_video(["zero"], ENV_ID, [1], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nobody_plays(tmp_path: Path) -> None:
    class Player:
        def predict(self, *_: object, **__: object) -> tuple[np.ndarray, None]:
            raise AssertionError("played")

    (tmp_path / "file").touch()
    (tmp_path / "folder.gif").mkdir()
    for path in (tmp_path / "file" / "race.gif", tmp_path / "folder.gif"):
        with pytest.raises(OSError, match=r"file|folder\.gif"):
            record_video({"someone": Player()}, ENV_ID, [3], path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.gif"]


def test_no_episodes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        record_video(["zero"], ENV_ID, [], tmp_path / "film.mp4")


def test_a_failed_recording_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"old")

    class Fails:
        def predict(self, *args: object, **kwargs: object) -> None:
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        record_video({"fails": Fails()}, ENV_ID, [1], path)
    assert path.read_bytes() == b"old"
