"""The command line: the whole way from data to video, and what it says when something is wrong."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import TINY

import grasp_agent.data
import grasp_agent.training
from grasp_agent.cli import COMMANDS, main
from grasp_agent.cli.options import env_arguments
from grasp_agent.data import CollectSettings
from grasp_agent.models import LatentWorldModel, load_world_model, save_pretrained
from grasp_agent.training.representation import RepresentationTask

REACH = "grasp_envs:grasp_envs/PushTReach-v0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained world model, and data that is too coarse for the recipes."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    save_pretrained(LatentWorldModel(TINY), folder / "model")
    settings = CollectSettings((REACH,), steps=80, shard_steps=40, episode_length=20, resolution=16)
    grasp_agent.data.collect(settings, folder / "data", workers=1)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 40 steps, and a recipe for 16 px that takes a moment."""
    monkeypatch.setattr(grasp_agent.data, "CollectSettings", functools.partial(CollectSettings, shard_steps=40))
    recipe = grasp_agent.training.LatentRecipe(model=TINY, representation="supervised", unroll=2, held_out=0.3)
    recipe = replace(
        recipe, encoder=replace(recipe.encoder, batch=8, steps=4), dynamics=replace(recipe.dynamics, batch=8, steps=4)
    )
    monkeypatch.setitem(grasp_agent.training.RECIPES, "sprites", lambda data: recipe)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complaint(args: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    """Run a command that must fail; return its one line on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(args)
    assert exit.value.code == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("grasp-agent: "), lines
    return lines[0].removeprefix("grasp-agent: ")


# ---- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_the_overview_names_every_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(args)
    shown = capsys.readouterr().out
    assert all(f"grasp-agent {name} " in shown for name in COMMANDS)
    assert "COMMAND --help" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: grasp-agent {name}" in shown
    assert name == "demo" or f"    grasp-agent {name} --" in shown, "examples of use are missing"
    assert "{None}" not in shown and "(default: )" not in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["colect"], "colect"),
        (["collect"], "--out"),
        (["collect", "--out", "x", "--steps", "many"], "many"),
        (["train", "--data", "x", "--out", "y", "--epochs", "3"], "--epochs"),
        (["evaluate", "--goal-weights", "heavy"], "heavy"),
    ],
)
def test_mistyped_commands_are_explained(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(args)
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert words in said and "--help" in said and "Traceback" not in said


# ---- the whole way -------------------------------------------------------------------------------------------


def test_from_data_to_video(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, trained, results = tmp_path / "data", tmp_path / "train", tmp_path / "results"
    command = ["collect", "--out", str(data), "--steps", "80", "--resolution", "16", "--workers", "1"]
    command += ["--episode-length", "20"]
    main(command)
    assert f"next: grasp-agent train --data {data} --out" in capsys.readouterr().out
    shards = {path: path.stat().st_mtime_ns for path in data.glob("shard-*/frames.npy")}
    assert len(shards) == 2
    main([*command[:4], "120", *command[5:]])
    assert len(list(data.glob("shard-*"))) == 3
    assert all(path.stat().st_mtime_ns == written for path, written in shards.items())
    capsys.readouterr()

    command = ["train", "--data", str(data), "--out", str(trained), "--encoder-steps", "3", "--dynamics-steps", "2"]
    main([*command, "--threads", "1"])
    shown = capsys.readouterr().out
    assert "3/3" in shown and "2/2" in shown and "held-out episodes" in shown
    assert shown.splitlines()[-1] == (f"next: grasp-agent evaluate --model {trained / 'model'}")
    assert load_world_model(trained / "model").config == TINY
    for name in ("metrics.json", "rollouts.png", "curves.png", "log.jsonl"):
        assert (trained / name).is_file()

    play = ["--policy", "grasp", "--policy", "random", "--model", str(trained / "model")]
    play += ["--horizon", "2", "--goal-horizon", "5", "--goal-weights", "0", "0", "1", "1", "1", "1"]
    command = ["evaluate", *play, "--episodes", "2", "--seed", "7", "--out", str(results), "--replan-every", "2"]
    command += ["--batch", "2"]
    main(command)
    assert "grasp" in capsys.readouterr().out
    with open(results / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["entrant"], row["seed"]) for row in rows] == [
        ("grasp", "7"),
        ("random", "7"),
        ("grasp", "8"),
        ("random", "8"),
    ]
    assert {row["steps"] for row in rows} == {"10"}
    assert (results / "success.png").is_file() and (results / "results.json").is_file()
    before = (results / "results.csv").read_bytes()
    main(command)
    assert (results / "results.csv").read_bytes() == before, "a finished evaluation was played again"
    other = complaint([*command, "--goal-horizon", "6"], capsys)
    assert "expected a run with the same settings" in other and (results / "results.csv").read_bytes() == before

    film = tmp_path / "new" / "film.gif"
    main(["video", *play, "--seed", "7", "--out", str(film), "--size", "64"])
    shown = capsys.readouterr().out
    assert "random, seed 7: " in shown and f"video in {film}" in shown
    assert film.read_bytes().startswith(b"GIF8")
    assert [path.name for path in film.parent.iterdir()] == ["film.gif"]


def test_evaluating_saved_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stable_baselines3 import PPO

    PPO("MultiInputPolicy", REACH, n_steps=8, batch_size=8, device="cpu").save(tmp_path / "ppo.zip")
    command = ["evaluate", "--policy", "random", "--policy", f"mine={tmp_path / 'ppo.zip'}", "--episodes", "1"]
    assert "expected a policy that you trust" in complaint([*command, "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()
    main([*command, "--trust", "--goal-horizon", "5", "--out", str(tmp_path / "out")])
    assert "mine" in capsys.readouterr().out
    assert "mine,0,10000" in (tmp_path / "out" / "results.csv").read_text()


def test_bench_measures_decisions(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--stage", "speed", "--seconds", "0.1", "--model", str(place / "model")])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("grasp", "cem", "p95"))


def test_data_of_others_are_converted(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari", reason="Minari is an extra")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    main(["convert", "--data", str(place / "data"), "--out", "minari:mine/reach-v0"])
    main(["convert", "--data", "minari:mine/reach-v0", "--out", str(tmp_path / "back"), "--resolution", "16"])
    ours, back = (grasp_agent.data.EpisodeDataset(folder) for folder in (place / "data", tmp_path / "back"))
    assert np.array_equal(ours.frames(np.arange(len(ours))), back.frames(np.arange(len(back))))


# ---- bad input -----------------------------------------------------------------------------------------------

CASES = {
    "collect: unknown environment": (["collect", "--out", "D/x", "--env", "grasp_envs/Nothing-v0"], "cannot be made"),
    "collect: no such package": (["collect", "--out", "D/x", "--env", "nowhere:Nothing-v0"], "cannot be made"),
    "collect: no expert": (["collect", "--out", "D/x", "--env", "Pendulum-v1"], "no scripted expert"),
    "collect: an expert's odd argument": (
        ["collect", "--out", "D/x", "--expert-arg", "leaning=2"],
        "expected leaning to be a number from 0 to 1, got 2",
    ),
    "collect: no expert's argument": (
        ["collect", "--out", "D/x", "--expert-arg", "leaning"],
        "--expert-arg leaning: expected NAME=VALUE, as in leaning=0.3",
    ),
    "collect: no frames": (
        ["collect", "--out", "D/x", "--env", "blind_world:Blind-v0", "--policy", "random", "--pixels"],
        "expected uint8 frames of shape (64, 64, 3)",
    ),
    "collect: unknown policy": (
        ["collect", "--out", "D/x", "--policy", "human"],
        "expected one of expert, random, planner",
    ),
    "collect: a planner without a model": (
        ["collect", "--out", "D/x", "--env", "grasp_envs:grasp_envs/BallNav-v0", "--policy", "planner"],
        "expected a world model with policy 'planner'",
    ),
    "collect: negative steps": (["collect", "--out", "D/x", "--steps", "-5"], "steps: expected at least 1, got -5"),
    "collect: no workers": (["collect", "--out", "D/x", "--workers", "0"], "workers: expected at least 1"),
    "collect: tiny frames": (["collect", "--out", "D/x", "--resolution", "2"], "resolution"),
    "collect: other settings": (
        ["collect", "--out", "D/data", "--resolution", "24"],
        "holds data of other settings (different:",
    ),
    "collect: a file in the way": (["collect", "--out", "D/model/config.json"], "config.json"),
    "convert: nothing foreign": (
        ["convert", "--data", "D/data", "--out", "D/x"],
        "expected minari:NAME or lerobot:FOLDER into a data folder",
    ),
    "convert: no such data": (
        ["convert", "--data", "lerobot:D/data", "--out", "D/x"],
        "expected a LeRobot data set with meta/info.json, found none",
    ),
    "convert: tiny frames": (
        ["convert", "--data", "lerobot:D/data", "--out", "D/x", "--resolution", "0"],
        "resolution: expected a whole number from 1 to 4096 pixels, got 0",
    ),
    "convert: arguments of no environment": (
        ["convert", "--data", "lerobot:D/data", "--out", "D/x", "--env-arg", "control=absolute"],
        "expected none without an environment",
    ),
    "train: no data": (["train", "--data", "D/none", "--out", "D/x"], "expected a data folder with dataset.json"),
    "train: foreign data": (["train", "--data", "D/foreign", "--out", "D/x"], "dataset.json: expected"),
    "train: no shards": (["train", "--data", "D/empty", "--out", "D/x"], "expected at least one finished shard"),
    "train: resolution": (
        ["train", "--data", "D/data", "--out", "D/x", "--recipe", "pose"],
        "expected frames of 64 px, got 16",
    ),
    "train: unknown recipe": (
        ["train", "--data", "D/data", "--out", "D/x", "--recipe", "best"],
        "expected one of dino_wm, generic, joint, joint_grid, pose, sprites, vector",
    ),
    "train: no steps": (
        ["train", "--data", "D/data", "--out", "D/x", "--encoder-steps", "0"],
        "sprites.steps: expected at least 1, got 0, which would leave random weights",
    ),
    "train: negative steps": (
        ["train", "--data", "D/data", "--out", "D/x", "--dynamics-steps", "-1"],
        "dynamics.steps: expected 0 or more, got -1",
    ),
    "train: unknown device": (["train", "--data", "D/data", "--out", "D/x", "--device", "gpu"], "expected cpu or cuda"),
    "train: no threads": (["train", "--data", "D/data", "--out", "D/x", "--threads", "0"], "--threads: expected"),
    "evaluate: unknown environment": (["evaluate", "MODEL", "--env", "grasp_envs/Nothing-v0"], "cannot be made"),
    "evaluate: unknown policy": (["evaluate", "MODEL", "--policy", "magic"], "expected one of grasp,"),
    "evaluate: nameless policy": (["evaluate", "MODEL", "--policy", "=x.zip"], "expected a name before the ="),
    "evaluate: twice the same": (
        ["evaluate", "MODEL", "--policy", "random", "--policy", "random"],
        "expected different names",
    ),
    "evaluate: unknown model": (["evaluate", "--model", "pusht-v9"], "unknown world model 'pusht-v9'"),
    "evaluate: truncated model": (["evaluate", "--model", "D/truncated"], "expected a whole safetensors file"),
    "evaluate: other format": (["evaluate", "--model", "D/other"], "expected format 'grasp-agent world model'"),
    "evaluate: not a model": (["evaluate", "--model", "D/data"], "config.json, which is missing"),
    "evaluate: no such file": (["evaluate", "--policy", "a=D/none.zip"], "got no such file"),
    "evaluate: a zip that is none": (["evaluate", "--policy", "a=D/broken.zip"], "damaged or of another format"),
    "evaluate: neither zip nor agent": (["evaluate", "--policy", "a=D/model/config.json"], "expected random, zero"),
    "evaluate: weights": (["evaluate", "MODEL", "--goal-weights", "1", "2"], "expected 6 numbers"),
    "evaluate: negative weights": (
        ["evaluate", "MODEL", "--goal-weights", "1", "1", "1", "1", "1", "-1"],
        "weights: expected finite numbers",
    ),
    "evaluate: no episodes": (["evaluate", "MODEL", "--episodes", "0"], "--episodes: expected at least 1"),
    "evaluate: more episodes than memory": (
        ["evaluate", "MODEL", "--episodes", "18446744073709551616"],
        "--episodes: expected at most 1000000, got 18446744073709551616",
    ),
    "collect: more steps than memory": (
        ["collect", "--out", "D/x", "--steps", "18446744073709551616"],
        "--steps: expected at most 10000000000, got",
    ),
    "bench: more threads than there are": (["plan", "--threads", "1000000"], "--threads: expected at most 1024"),
    "evaluate: negative seed": (["evaluate", "MODEL", "--seed", "-3"], "non-negative integers"),
    "evaluate: no time": (["evaluate", "MODEL", "--seconds", "-1"], "seconds: expected a finite number above 0"),
    "evaluate: no iterations": (
        ["evaluate", "MODEL", "--iterations", "0"],
        "iterations: expected a whole number of at least 1, got 0",
    ),
    "evaluate: seconds of a batch": (["evaluate", "MODEL", "--seconds", "1", "--batch", "2"], "try batch 1"),
    "evaluate: no batch": (["evaluate", "MODEL", "--batch", "0"], "batch: expected at least 1, got 0"),
    "evaluate: no horizon": (
        ["evaluate", "MODEL", "--horizon", "0"],
        "horizon: expected a whole number from 1 to 10000",
    ),
    "evaluate: replan": (["evaluate", "MODEL", "--replan-every", "0"], "replan_every: expected a whole number from 1"),
    "evaluate: goal horizon": (["evaluate", "MODEL", "--goal-horizon", "1"], "goal_horizon"),
    "evaluate: another argument": (
        ["evaluate", "MODEL", "--env", "grasp_envs/PushT-v0", "--goal-horizon", "25"],
        "got 'grasp_envs/PushT-v0', which has none",
    ),
    "evaluate: foreign results": (["evaluate", "MODEL", "--out", "D/results"], "of an earlier run, got files that"),
    "video: suffix": (["video", "MODEL", "--out", "D/x/film.avi"], "ending in .mp4 or .gif"),
    "video: negative seed": (["video", "MODEL", "--out", "D/x/film.gif", "--seed", "-1"], "--seed: expected 0 or more"),
    "video: no iterations": (
        ["video", "MODEL", "--out", "D/x/film.gif", "--iterations", "0"],
        "iterations: expected a whole number of at least 1, got 0",
    ),
    "video: size": (["video", "MODEL", "--out", "D/x/film.gif", "--size", "0"], "--size: expected at least 64"),
    "bench: no time": (["bench", "--seconds", "0"], "--seconds: expected a positive number"),
    "bench: unknown stage": (["bench", "--stage", "race"], "expected one of open, closed, ablation, tune, speed"),
    "bench: unknown planner": (["bench", "--planner", "luck"], "planner: expected one of grasp"),
    "bench: no goals": (["bench", "--goals", "0"], "--goals: expected at least 1, got 0"),
    "bench: no such settings": (["bench", "--settings", "D/none.json"], "expected the tuning.json"),
    "bench: unknown model": (["bench", "--out", "D/x", "--model", "D/none"], "unknown world model"),
}


@pytest.mark.parametrize(("args", "words"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_one_sentence(
    args: list[str], words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model", "data"):
        shutil.copytree(place / name, tmp_path / name)
    shutil.copytree(place / "model", tmp_path / "truncated")
    weights = tmp_path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    shutil.copytree(place / "model", tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"format": "diffusers"}')
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 but not really")
    for name, file, text in (
        ("results", "results.json", "not JSON"),
        ("foreign", "dataset.json", '{"format": "lerobot"}'),
        ("empty", "dataset.json", '{"format": "grasp-agent episodes", "settings": {}}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    before = contents(tmp_path)

    if "MODEL" in args:
        at = args.index("MODEL")
        args = [*args[:at], "--model", "D/model", *args[at + 1 :]]
        if args[0] == "evaluate" and "--out" not in args:
            args = [*args, "--out", "D/x"]
    args = [word.replace("D/", f"{tmp_path}/") for word in args]
    assert words in complaint(args, capsys)
    assert contents(tmp_path) == before, "something written before was changed, or something was left behind"


def test_an_environment_of_ones_own_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an argument of its own, and recorded by worker processes, which must find it too."""
    (tmp_path / "my_worlds.py").write_text(OWN_WORLD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ["--env", "my_worlds:Mine-v0", "--policy", "random", "--resolution", "8", "--env-arg", "shade=7"]
    main(["collect", "--out", "data", *options, "--steps", "6000", "--workers", "2"])
    frames = np.load(tmp_path / "data" / "shard-00001" / "frames.npy")
    assert frames.shape[1:] == (8, 8, 3) and (frames == 7).all()


OWN_WORLD = """
import gymnasium, numpy
from gymnasium import spaces

class Mine(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (8, 8, 3), numpy.uint8)
    action_space = spaces.Box(-1, 1, (3,), numpy.float32)

    def __init__(self, shade=0):
        self.frame = numpy.full((8, 8, 3), shade, numpy.uint8)

    def reset(self, seed=None, options=None):
        return self.frame, {}

    def step(self, action):
        return self.frame, 0.0, False, False, {}

gymnasium.register("Mine-v0", Mine)
"""


def test_trouble_while_collecting_keeps_what_is_there(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker process fails: its error is one sentence, and other shards stay."""
    command = ["collect", "--out", str(tmp_path / "d"), "--steps", "40", "--resolution", "16"]
    main([*command, "--workers", "1"])
    before = contents(tmp_path / "d" / "shard-00000")
    (tmp_path / "d" / "shard-00002").write_text("in the way")
    said = complaint([*command[:4], "120", *command[5:], "--workers", "2"], capsys)
    assert "shard-00002" in said
    assert contents(tmp_path / "d" / "shard-00000") == before
    assert not list((tmp_path / "d").glob(".*"))


# ---- interruptions -------------------------------------------------------------------------------------------

HINT = "stopped; what is finished is kept, the same command goes on from there"


def test_interrupted_collecting_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    command = ["collect", "--out", str(data), "--steps", "120", "--resolution", "16", "--workers", "1"]
    module = sys.modules["grasp_agent.data.collect"]  # as an attribute of the package it is the function
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", interrupting(module.write_shard, 2))
        assert complaint(command, capsys, status=130) == HINT
    assert sorted(path.name for path in data.iterdir()) == ["dataset.json", "shard-00000"]
    main(command)
    assert len(list(data.glob("shard-*"))) == 3


def interrupting(function: Callable[..., object], calls: int) -> Callable[..., object]:
    """The function, but the given call ends in Ctrl-C."""
    count = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count == calls:
            before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.signal(signal.SIGINT, before)
        return function(*args, **kwargs)

    return call


def test_interrupted_training_goes_on(
    small: None, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "train"
    command = ["train", "--data", str(place / "data"), "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(RepresentationTask, "losses", interrupting(RepresentationTask.losses, 3))
        assert complaint(command, capsys, status=130) == HINT
    assert sorted(path.name for path in out.iterdir()) == ["log.jsonl", "training.json"]
    main(command)
    assert load_world_model(out / "model").config == TINY


def test_a_video_cannot_go_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LatentWorldModel, "encode", interrupting(LatentWorldModel.encode, 5))
    film = tmp_path / "film.gif"
    film.write_bytes(b"the old one")
    command = ["video", "--model", str(place / "model"), "--out", str(film), "--size", "64", "--horizon", "2"]
    assert complaint(command, capsys, status=130) == "stopped"
    assert contents(tmp_path) == {film: b"the old one"}


@pytest.mark.slow
def test_ctrl_c_while_many_processes_collect(tmp_path: Path) -> None:
    """The terminal sends Ctrl-C to all processes: one line is said, whole shards stay, no process does."""
    data = tmp_path / "data"
    words = [sys.executable, "-m", "grasp_agent.cli", "collect", "--out", str(data)]
    words += ["--steps", "1000000", "--workers", "2", "--resolution", "16"]
    for begun in ("dataset.json", "shard-*"):  # while the workers start, and when they are at it
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
        end = time.monotonic() + 120
        while not list(data.glob(begun)):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, f"grasp-agent: {HINT}\n")
        assert not list(data.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["pose", "generic"])
def test_the_recipes_run_as_they_are(recipe: str, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "train"
    env = "grasp_envs:grasp_envs/PushT-v0"  # its episodes are long enough for both recipes
    settings = CollectSettings((env,), steps=300, shard_steps=300, episode_length=70)
    grasp_agent.data.collect(settings, data, workers=1)
    command = ["train", "--data", str(data), "--out", str(out), "--recipe", recipe]
    main([*command, "--encoder-steps", "1", "--dynamics-steps", "1"])
    model = load_world_model(out / "model")
    assert model.image_size == 64
    assert (out / "model" / "model.safetensors").stat().st_size < 15e6


def test_arguments_of_the_environment_are_read() -> None:
    given = ("success=strict", "resolution=96", "dense=True", "start=(1, 2.5)", "note=a=b", "none=None")
    assert env_arguments(given) == {
        "success": "strict", "resolution": 96, "dense": True, "start": (1, 2.5), "note": "a=b", "none": None
    }  # fmt: skip
    for wrong in ("strict", "=3", "a b=3"):
        with pytest.raises(ValueError, match=f"--env-arg {wrong}: expected NAME=VALUE"):
            env_arguments((wrong,))
    with pytest.raises(ValueError, match="expected different names, got 'a' twice"):
        env_arguments(("a=1", "a=2"))


def test_the_command_after_training_names_the_world(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(tmp_path / "data"), str(tmp_path / "train")
    main(
        ["collect", "--env", "Pendulum-v1", "--env-arg", "g=9.5", "--env-arg", "render_mode=None", "--policy", "random",
         "--steps", "80", "--episode-length", "20", "--workers", "1", "--out", data]
    )  # fmt: skip
    main(
        ["train", "--data", data, "--out", out, "--dynamics-steps", "1", "--proposal-steps", "1", "--outcomes-steps",
         "1", "--threads", "1"]
    )  # fmt: skip
    world = "--env Pendulum-v1 --env-arg g=9.5 --env-arg render_mode=None"
    assert capsys.readouterr().out.splitlines()[-1] == f"next: grasp-agent evaluate {world} --model {out}/model"


def test_an_evaluation_is_played_with_the_arguments_of_the_environment(tmp_path: Path) -> None:
    main_arguments = ["evaluate", "--policy", "zero", "--episodes", "1", "--goal-horizon", "5", "--out", str(tmp_path)]
    main([*main_arguments, "--env-arg", "success=strict"])
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert settings["env_kwargs"] == {"success": "strict", "goal_horizon": 5}


def test_an_evaluation_is_played_for_goals_in_hindsight(tmp_path: Path) -> None:
    shown = ["--env", "grasp_envs/PushT-v0", "--hindsight", "5"]
    main(["evaluate", "--policy", "random", "--episodes", "1", "--out", str(tmp_path), *shown])
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["env_kwargs"] == {"hindsight": 5}
