"""Folders that another run writes to, and disks that take no more: one sentence that names the place and the reason."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import TINY

import grasp_agent.data
import grasp_agent.training
from grasp_agent.cli import main
from grasp_agent.data import CollectSettings
from grasp_agent.files.lock import locked
from grasp_agent.training.representation import RepresentationTask

AREA = "folders in use, or that cannot be made"
FULL = os.strerror(errno.ENOSPC)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, and a recipe that takes a moment."""
    recipe = grasp_agent.training.LatentRecipe(model=TINY, representation="supervised", unroll=2, held_out=0.3)
    stages = {name: replace(getattr(recipe, name), batch=8, steps=2) for name in ("encoder", "dynamics")}
    monkeypatch.setitem(grasp_agent.training.RECIPES, "sprites", lambda data: replace(recipe, **stages))  # type: ignore[arg-type]
    env_ids = ("grasp_envs:grasp_envs/PushTReach-v0",)
    settings = CollectSettings(env_ids, steps=80, shard_steps=40, episode_length=20, resolution=16)
    return grasp_agent.data.collect(settings, tmp_path / "data", workers=1)


def complaint(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(args)
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and len(lines) == 1, lines
    return lines[0].removeprefix("grasp-agent: ")


def full(*args: object, **kwargs: object) -> None:
    """A write that finds no space; such errors name no file."""
    raise OSError(errno.ENOSPC, FULL)


def test_two_trainings_do_not_write_to_one_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "train"
    command = ["train", "--data", str(data), "--out", str(out)]
    with locked(out):
        said = complaint(command, capsys)
        assert said.startswith(f"{out}: expected a folder that no other run writes to, but process {os.getpid()} does")
        assert {path.name for path in out.iterdir()} == {".lock", ".lock-holder"}, "it wrote all the same"
    main(command)
    assert (out / "model" / "config.json").is_file() and not list(out.glob(".*"))


def test_a_training_is_locked_to_its_end(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(data), "--out", str(tmp_path / "train")]
    losses, tried = RepresentationTask.losses, []

    def meanwhile(self: RepresentationTask, *args: object) -> object:
        if not tried:
            with pytest.raises(RuntimeError, match="no other run writes to"), locked(tmp_path / "train"):
                pass
            tried.append(True)
        return losses(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(RepresentationTask, "losses", meanwhile)
    main(command)
    assert tried


def test_a_full_disk_is_named_with_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more"
    command = ["collect", "--out", str(out), "--policy", "random", "--steps", "40", "--resolution", "16"]
    shards = functools.partial(CollectSettings, shard_steps=40)
    cases: list[tuple[list[str], object, str, Path]] = [
        ([*command, "--workers", "1"], np, "save", out / "shard-00000"),
        (["train", "--data", str(data), "--out", str(tmp_path / "t")], RepresentationTask, "losses", tmp_path / "t"),
    ]
    monkeypatch.setattr(grasp_agent.data, "CollectSettings", shards)
    for args, place, name, named in cases:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            assert complaint(args, capsys) == f"{named}: {FULL}"
        assert not list(named.parent.rglob(".*"))


def in_the_way(path: Path) -> str:
    path.write_text("a file")
    return os.strerror(errno.EEXIST)


def under_a_file(path: Path) -> str:
    path.parent.write_text("a file")
    return os.strerror(errno.ENOTDIR)


def a_long_name(path: Path) -> str:
    return os.strerror(errno.ENAMETOOLONG)


@pytest.mark.parametrize(
    ("name", "prepare"), [("out", in_the_way), ("file/out", under_a_file), ("x" * 300, a_long_name)], ids=lambda x: ""
)
@pytest.mark.parametrize("kind", ["collect", "evaluate", "train"])
def test_a_folder_that_cannot_be_made_is_named(
    kind: str,
    name: str,
    prepare: Callable[[Path], str],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason, out = prepare(tmp_path / name), tmp_path / name
    options = {
        "collect": ["--policy", "random", "--resolution", "16"],
        "evaluate": ["--policy", "random", "--episodes", "1", "--goal-horizon", "5"],
        "train": ["--data", str(data)],
    }
    said = complaint([kind, "--out", str(out), *options[kind]], capsys)
    assert said == f"{out}: {reason}" or said == f"{out.parent}: {reason}" or said == f"{out}/dataset.json: {reason}"
