"""Making environments by name, and what is said where that fails."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.rendered import image_side, square
from grasp_agent.tasks.task import RENDERED


class Slider(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A bright column in a dark picture of 20 x 40; the observation is its place."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None, deaf: bool = False) -> None:
        self.render_mode = None if deaf else render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(40))
        return np.zeros(1, np.float32), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.at = (self.at + 1) % 40
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        picture = np.full((20, 40, 3), 10, np.uint8)
        picture[:, self.at] = 250
        return picture


gymnasium.register("Slider-v0", Slider)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("PointMaze_UMaze-v3", "doesn't exist; if a package of its own registers it, name that too, as in PACKAGE:Poi"),
        ("nowhere/X-v0", "; if a package of its own registers it, name that too, as in PACKAGE:nowhere/X-v0"),
        ("CartPol-v1", r"Did you mean: `CartPole`\?$"),
        (":X-v0", "environment: expected the name of a module before the colon, got ':X-v0'"),
        ("no_such_module:X-v0", "; what stands before the colon must be a module that is installed or lies in the"),
    ],
)
def test_an_unknown_environment_is_told_with_what_to_try(env_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id)


# ---- rendered frames


def test_where_observations_hold_no_picture_the_scene_is_rendered() -> None:
    env = make_env("Slider-v0", **{RENDERED: 10})
    assert image_side(env.observation_space) == 10
    frame, _ = env.reset(seed=3)
    assert env.observation_space.contains(frame)
    # 40 columns become 10; above and below the 20 rows there are black bars of 10, which become 2 and a half
    at = env.unwrapped.at  # type: ignore[attr-defined]
    assert (frame[:2] == 0).all() and (frame[8:] == 0).all()
    assert (frame[3:7, at // 4] == 70).all()  # a quarter 250, three quarters 10
    assert (np.delete(frame[3:7], at // 4, axis=1) == 10).all()
    assert (frame[2, at // 4] == 35).all()  # half of it is bar


def test_a_tall_picture_stands_between_bars() -> None:
    frame = square(np.full((8, 4, 3), 200, np.uint8), 4)
    assert frame[:, :, 0].tolist() == [[0, 200, 200, 0]] * 4


def test_an_environment_that_renders_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an environment that renders arrays, got render_mode None"):
        make_env("Slider-v0", deaf=True, **{RENDERED: 10})


@pytest.mark.parametrize(
    ("set_to", "advice"), [(None, "egl or MUJOCO_GL=osmesa (now not set)"), ("egl", "osmesa (now egl)")]
)
def test_rendering_that_fails_is_one_sentence_before_anything_is_written(
    set_to: str | None, advice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: Slider) -> None:
        raise OSError("no\ncontext")

    monkeypatch.setattr(Slider, "render", fail)
    settings = CollectSettings(("Slider-v0",), 60, policy="random", resolution=10, pixels=True)
    with pytest.raises(RuntimeError, match=r"Slider-v0>>>: expected it to render a picture, got no context$"):
        collect(settings, tmp_path / "data", workers=1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "mujoco", ModuleType("mujoco"))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if set_to is not None:
        monkeypatch.setenv("MUJOCO_GL", set_to)
    with pytest.raises(RuntimeError) as caught:
        make_env("Slider-v0", **{RENDERED: 10}).reset()
    assert str(caught.value).endswith(f"got no context; on a machine without a screen set MUJOCO_GL={advice}")


@pytest.mark.parametrize(("side", "error"), [(..., TypeError), (True, TypeError), (0, ValueError), (10**6, ValueError)])
def test_a_picture_has_a_number_of_pixels(side: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="rendered: expected a whole number from 1 to 4096 pixels of height and width, got"):
        make_env("Slider-v0", **{RENDERED: side})


def test_pictures_of_its_own_are_not_rendered_over() -> None:
    with pytest.raises(ValueError, match="expected observations without a picture to render in its place, got 96 px"):
        make_env("grasp_envs/PushT-v0", obs_type="pixels", **{RENDERED: 64})


def test_a_scene_is_rendered_once_a_step() -> None:
    env = make_env("Slider-v0", **{RENDERED: 10})
    env.reset(seed=3)
    once = env.render()
    assert env.render() is once
    env.step(np.zeros(1, np.float32))
    later: Any = env.render()
    assert not np.array_equal(later, once) and np.array_equal(later, env.unwrapped.render())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory in use is read from Linux's /proc")
def test_frames_that_are_kept_cost_what_they_hold() -> None:
    def megabytes() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    kept = [square(np.full((400, 600, 3), 9, np.uint8), 64)]
    before = megabytes()
    kept += [square(np.full((400, 600, 3), i % 250, np.uint8), 64) for i in range(200)]
    assert megabytes() - before < 100  # they hold 2.5; arrays of floats in between left 700 behind


def test_rendered_frames_are_recorded(tmp_path: Any) -> None:
    settings = CollectSettings(
        ("Slider-v0",), 60, policy="random", episode_length=30, shard_steps=60, resolution=10, pixels=True
    )
    data = EpisodeDataset(collect(settings, tmp_path / "data", workers=1))
    frames = data.frames(np.arange(31))
    columns = frames[:, 5].max(2).argmax(1)  # the brightest
    moves = np.diff(columns) % 10
    assert set(moves.tolist()) == {0, 1} and int(moves.sum()) in (7, 8)
