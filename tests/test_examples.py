"""Every example runs as a user would start it, with tiny settings and an untrained world model."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from grasp_agent.cli import main
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *arguments: object) -> str:
    """Run an example and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def world_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world_model")
    torch.manual_seed(0)
    config = WorldModelConfig(
        image_size=16,
        state_size=4,
        encoder_channels=4,
        encoder_keypoints=4,
        encoder_hidden=8,
        dynamics_hidden=8,
        dynamics_depth=1,
        decoder_channels=0,
    )
    save_pretrained(LatentWorldModel(config), folder)
    return folder


@pytest.fixture(scope="module")
def trained_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of two stretches of baseline training, the second resumed."""
    out = tmp_path_factory.mktemp("baseline")
    run("train_sb3_baseline.py", "--steps", 5_600, "--every", 5_600, "--episodes", 2, "--out", out)
    run("train_sb3_baseline.py", "--steps", 5_680, "--every", 5_600, "--episodes", 2, "--out", out)
    return out


def test_examples_are_short_and_all_tested() -> None:
    found = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    study = found.pop("ball_navigation.py")  # a study with a film; its tests are in test_ball_navigation.py
    assert set(found) == {
        "quickstart.py",
        "record_video.py",
        "compare_with_sb3.py",
        "train_sb3_baseline.py",
        "plan_by_reward.py",
        "boat.py",
    }
    assert max(found.values()) <= 95 and study <= 450


def test_quickstart(world_model: Path) -> None:
    lines = run("quickstart.py", "--model", world_model, "--goal-horizon", 5).splitlines()
    assert 2 <= len(lines) <= 11
    assert lines[-1].endswith(f"in {len(lines) - 1} steps")


def test_record_video(world_model: Path, tmp_path: Path) -> None:
    film = tmp_path / "new" / "film.gif"
    printed = run("record_video.py", "--model", world_model, "--goal-horizon", 5, "--episodes", 1, "--out", film)
    assert printed.count("episode 0") == 2
    assert film.read_bytes().startswith(b"GIF8")


def test_the_baseline_trains_resumes_and_saves_its_best(trained_policy: Path) -> None:
    with (trained_policy / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["steps"]) for row in rows] == [5_600, 5_680]
    # Four updates per step of sixteen environments; resuming goes on counting.
    assert int(rows[1]["updates"]) - int(rows[0]["updates"]) == 4 * 80 / 16
    from stable_baselines3 import SAC

    policy = SAC.load(trained_policy / "best.zip")
    assert policy.policy.actor.features_extractor.features_dim == 40


def test_compare_with_sb3(world_model: Path, trained_policy: Path, tmp_path: Path) -> None:
    policy = trained_policy / "best.zip"
    small = ["--episodes", 2, "--goal-horizon", 5, "--out", tmp_path / "results"]
    printed = run("compare_with_sb3.py", "--model", world_model, "--policy", policy, "--trust", *small)
    assert all(name in printed for name in ("grasp", "sac+her", "random"))
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["entrant"] for row in rows] == ["grasp", "sac+her", "random"] * 2


def test_plan_by_reward_collects_learns_and_compares(tmp_path: Path) -> None:
    small = ["--steps", 400, "--training-steps", 5, "--episodes", 2, "--algorithm", "DQN", "--out", tmp_path]
    printed = run("plan_by_reward.py", *small)
    assert all(name in printed for name in ("grasp", "dqn", "random", "return"))
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["entrant"] for row in rows] == ["grasp", "dqn", "random"] * 2
    assert all(8 <= float(row["return"]) <= 500 for row in rows)
    assert (tmp_path / "train" / "model" / "config.json").is_file()
    began = (tmp_path / "policy.zip").stat().st_mtime_ns
    assert run("plan_by_reward.py", *small).count("dqn") == 1 and (tmp_path / "policy.zip").stat().st_mtime_ns == began


@pytest.fixture
def boat(monkeypatch: pytest.MonkeyPatch) -> gym.Env:
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    return gym.make("examples.boat:Boat-v0", render_mode="rgb_array", disable_env_checker=True)


def test_the_boat_is_carried_by_the_current_and_lands(boat: gym.Env) -> None:
    check_env(boat.unwrapped, skip_render_check=True)
    observation, _ = boat.reset(seed=0)
    world: Any = boat.unwrapped
    world.boat, world.goal = np.array([0.5, 0.3]), np.array([0.5, 0.5])
    observation, _, done, _, info = boat.step(np.zeros(2))
    np.testing.assert_allclose(world.boat, [0.5, 0.32])  # the current is 0.02 in the middle of the river
    assert not done and not info["is_success"]
    centre = np.argwhere(observation["pixels"][..., 0] == 250).mean(0) / 63
    np.testing.assert_allclose(centre, [0.32, 0.5], atol=0.02)
    for _ in range(9):
        *_, done, _, info = boat.step(np.zeros(2))
    assert done and info["is_success"]


def test_a_world_of_forty_lines_is_learned_and_played_by_the_commands(boat: gym.Env, tmp_path: Path) -> None:
    """What is printed in its docstring, shorter: the commands alone lead from the file to a table and a film."""
    env, model = ["--env", "examples.boat:Boat-v0"], ["--model", str(tmp_path / "train" / "model")]
    tiny = [f"--{stage}-steps=2" for stage in ("encoder", "dynamics", "proposal")]
    commands = (
        ["collect", *env, "--policy", "random", "--steps", "2000", "--workers", "1", "--out", str(tmp_path / "data")],
        ["train", "--data", str(tmp_path / "data"), "--recipe", "sprites", *tiny, "--out", str(tmp_path / "train")],
        ["evaluate", *env, *model, "--policy", "grasp", "--episodes", "1", "--out", str(tmp_path / "results")],
        ["video", *env, *model, "--policy", "grasp", "--out", str(tmp_path / "film.gif")],
    )
    for words in commands:
        main(words)
    assert len((tmp_path / "results" / "results.csv").read_text().splitlines()) == 2
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF8")
