"""Files that were damaged in every way that a seed chooses: refused in one sentence, or no difference at all.

What a file does is found out by reading it as the program does. A damaged one may do the same (a changed date within an
archive, a lost part that is made again), or it is refused by a message that names it. Anything else is a failure.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from attacks import Tally, damaged
from dot_world import ENV_ID, DotEnv, register
from tiny_model import TINY
from torch import nn

from grasp_agent.benchmark.calibration import Timing, read_timings, write_timings
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.evaluation import evaluate
from grasp_agent.evaluation.results import EpisodeResult
from grasp_agent.evaluation.sb3 import load_policy
from grasp_agent.files.records import Records
from grasp_agent.models import LatentWorldModel, from_pretrained, save_pretrained
from grasp_agent.models.dino_wm.inert_pickle import read_inert
from grasp_agent.training.folder import claim
from grasp_agent.training.loop import Stage, _resume, _save

AREA = "300 corruptions"
register()

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        folder: holds a whole one, and all that is read with it.
        file: its name there; * stands for what differs.
        read: what it does, comparable.
    """

    folder: Path
    file: str
    read: Read


def tensors(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def a_model(folder: Path) -> Read:
    torch.manual_seed(0)
    save_pretrained(LatentWorldModel(TINY), folder)
    return lambda path: tensors(from_pretrained(path))


def results(folder: Path, finished: bool) -> Read:
    """An evaluation, which goes on or is looked at again."""

    def again(path: Path) -> Any:
        found = evaluate(["expert", "zero"], ENV_ID, range(4), out=path, progress=False)
        assert sorted(file.name for file in path.iterdir()) == ["results.csv", "results.json"]
        return found.settings, [astuple(row)[:-2] for row in found.rows]

    again(folder)
    if not finished:
        records = Records(folder, "results", EpisodeResult, None)
        (folder / "results.csv").unlink()
        for row in records.rows[:5]:
            records.append([row])
    return again


def shards(folder: Path) -> Read:
    env_ids = ("grasp_envs:grasp_envs/PushTReach-v0",)
    collect(CollectSettings(env_ids, 40, shard_steps=20, episode_length=10, resolution=16), folder, workers=1)

    def read(path: Path) -> Any:
        data = EpisodeDataset(path)
        rest = (data.actions, data.rewards, data.terminated, data.states, data.starts, data.lengths)
        frames = data.frames(np.arange(len(data))).tobytes()
        return data.settings, data.goal_size, frames, [np.asarray(array).tobytes() for array in rest]

    return read


def policy(folder: Path) -> Read:
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "n_steps": 8, "batch_size": 8, "seed": 0}
    sb3.PPO("MultiInputPolicy", DotEnv(), **small).save(folder / "policy.zip")

    def read(path: Path) -> Any:
        loaded = load_policy(path / "policy.zip", trust=True)
        rules = (type(loaded).__name__, str(loaded.observation_space), str(loaded.action_space))
        return rules, tensors(loaded.policy)

    return read


def checkpoint(folder: Path) -> Read:
    torch.manual_seed(0)
    torch.save({"weights": torch.randn(40), "settings": [1, "two", 3.0]}, folder / "model.pth")

    def read(path: Path) -> Any:
        content = read_inert(path / "model.pth")
        return {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in content.items()}

    return read


def state_of_training(folder: Path) -> Read:
    stage = Stage("stage", steps=10, batch=1, learning_rate=0.1)

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Linear(4, 3)
        return module, torch.optim.AdamW(module.parameters())

    def read(path: Path) -> Any:
        module, optimiser = fresh()
        step = _resume(path / "stage.pt", module, optimiser, torch.device("cpu"), stage)
        return step, tensors(module), repr(optimiser.state_dict())

    module, optimiser = fresh()
    module(torch.ones(1, 4)).sum().backward()
    optimiser.step()
    _save(folder / "stage.pt", module, optimiser, 7, stage)
    return read


def claimed(folder: Path) -> Read:
    settings = {"recipe": {"seed": 0, "steps": 300}, "data": [{"env_ids": ["a"]}], "initial": None, "threads": 1}
    read = partial(claim, settings=settings)
    read(folder)
    return read


def timings(folder: Path) -> Read:
    write_timings(folder / "calibration.json", {'{"planner": "a"}': Timing(0.25, (0.125, 0.5))})
    return lambda path: {name: timing.to_json() for name, timing in read_timings(path / "calibration.json").items()}


def made(name: str, folder: Path) -> Kind:
    """A kind of file by its name."""
    folder.mkdir()
    if name in ("model.safetensors", "config.json"):
        return Kind(folder, name, a_model(folder))
    if name in ("results.csv", "results.json"):
        return Kind(folder, name, results(folder, finished=True))
    if name in ("part of results", "unfinished results.json"):
        file = "results.json" if "json" in name else "results.parts/000003-*.csv"
        return Kind(folder, file, results(folder, finished=False))
    if name in ("dataset.json", "sha256.json") or name.endswith(".npy"):
        return Kind(folder, name if name == "dataset.json" else f"shard-00001/{name}", shards(folder))
    others = {
        "policy.zip": policy,
        "model.pth": checkpoint,
        "stage.pt": state_of_training,
        "training.json": claimed,
        "calibration.json": timings,
    }
    return Kind(folder, name, others[name](folder))


KINDS = {
    **dict.fromkeys(("model.safetensors", "config.json", "results.csv", "results.json"), 25),
    **dict.fromkeys(("part of results", "unfinished results.json"), 15),
    **dict.fromkeys(("frames.npy", "actions.npy", "states.npy", "lengths.npy", "sha256.json", "dataset.json"), 12),
    **dict.fromkeys(("policy.zip", "model.pth", "stage.pt"), 26),
    **dict.fromkeys(("training.json", "calibration.json"), 10),
}
"""Files, and how often each is damaged in the short form: 300 times and some."""


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KINDS)
def test_damage_is_refused_or_makes_no_difference(name: str, times: int, tmp_path: Path, tally: Tally) -> None:
    kind, draw = made(name, tmp_path / "whole"), random.Random(f"{name} {times} 2026")
    (whole,) = kind.folder.glob(kind.file)
    as_it_was = read_copy(kind, tmp_path / "copy", None)
    for _ in range(times * KINDS[name]):
        told, content = damaged(whole.read_bytes(), draw)
        try:
            found = read_copy(kind, tmp_path / "copy", content)
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            tally.judge(f"{name}, {told}", said=str(error), named=[whole.name])
        except Exception as error:
            tally.judge(f"{name}, {told}", said=f"Traceback {type(error).__name__} {error}", named=[whole.name])
        else:
            tally.judge(f"{name}, {told}", same=found == as_it_was, named=())


def read_copy(kind: Kind, folder: Path, content: bytes | None) -> Any:
    """What a copy of the folder does, with other content of the file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kind.folder, folder)
    if content is not None:
        (file,) = folder.glob(kind.file)
        file.write_bytes(content)
    return kind.read(folder)


def test_a_damage_that_makes_a_difference_is_noticed_here(tmp_path: Path) -> None:
    """The judge itself: settings that are read without any check."""
    kind = Kind(tmp_path / "whole", "a.txt", lambda path: (path / "a.txt").read_bytes())
    kind.folder.mkdir()
    (kind.folder / "a.txt").write_bytes(b"abc")
    assert read_copy(kind, tmp_path / "copy", None) != read_copy(kind, tmp_path / "copy", b"abd")
    tally = Tally(AREA)
    tally.judge("one", same=False, named=())
    tally.judge("two", said="wrong", named=["a.txt"])
    tally.judge("three", said="a.txt: wrong\nand more", named=["a.txt"])
    tally.judge("four", said="a.txt: wrong", named=["a.txt"])
    assert (tally.held, len(tally.lost), len(tally.unclear), tally.tried) == (1, 1, 2, 4)
