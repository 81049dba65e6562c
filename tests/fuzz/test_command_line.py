"""The command line: whatever is typed starts the work asked for, or ends in a sentence and leaves nothing behind.

The work itself is not done: where it would begin, `Begun` is raised instead.
"""

from __future__ import annotations

import functools
import inspect
import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import check_sentence, examples
from tiny_model import TINY

import grasp_agent.benchmark.speed
import grasp_agent.benchmark.stages
import grasp_agent.data.collect
import grasp_agent.data.foreign.source
import grasp_agent.evaluation.runner
import grasp_agent.evaluation.video
import grasp_agent.explain.explain
import grasp_agent.models
import grasp_agent.training.train
from grasp_agent.cli import COMMANDS, main
from grasp_agent.models import LatentWorldModel, save_pretrained

WORK = {
    "grasp_agent.data.collect": "locked",
    "grasp_agent.data.foreign.source": "locked",
    "grasp_agent.training.train": "locked",
    "grasp_agent.evaluation.runner": "locked",
    "grasp_agent.evaluation.video": "check_writable",
    "grasp_agent.explain.explain": "follow",
    "grasp_agent.benchmark.speed": "play",
    "grasp_agent.benchmark.stages": "Records",
}
"""Where each command begins to work or to write."""


class Begun(BaseException):
    """All arguments are accepted."""


def begin(*_: Any, **__: Any) -> Any:
    raise Begun


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with a model, an empty folder and a file in it; nothing works."""
    folder = tmp_path_factory.mktemp("place")
    save_pretrained(LatentWorldModel(TINY), folder / "model")
    (folder / "empty").mkdir()
    (folder / "file.txt").write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module, name in WORK.items():
            patch.setattr(sys.modules[module], name, begin)
        patch.setattr(torch, "set_num_threads", lambda count: None)
        patch.setitem(sys.modules, "minari", None)  # which would ask the network with --download
        load = functools.cache(grasp_agent.models.load_world_model)
        patch.setattr(grasp_agent.models, "load_world_model", load)
        yield folder


COMMON = (
    "",
    "a",
    "-1",
    "0",
    "1",
    "2",
    "3.5",
    "nan",
    "inf",
    "1e400",
    str(2**64),
    "9" * 100,
    "True",
    "None",
    "ü\n",
    "=",
)
FITTING = {
    "env": ("grasp_envs/Wall-v0", "grasp_envs/PushT-v0", "CartPole-v1", "a:b", "grasp_envs", "a/b-v0"),
    "policy": ("random", "grasp", "cem", "prior", "expert", "sac_her", "a=file.txt", "a=x.zip", "a=math:pi", "=", "a="),
    "planner": ("grasp", "cem", "luck", "prior"),
    "model": ("model", "wall", "pusht", "empty", "file.txt", "math:pi", "math:nothing", "x/y/z"),
    "initial": ("model", "empty"),
    "data": ("empty", "file.txt", "nothing", "lerobot:empty", "lerobot:", "minari:a/b-v0", "minari:"),
    "out": (
        "new",
        "new/deep",
        "file.txt",
        "file.txt/x",
        "empty",
        ".",
        "x.gif",
        "x.mp4",
        "n" * 300,
        "/proc/x",
        "minari:a-v0",
    ),
    "env_arg": ("resolution=96", "a=b", "resolution=0", "success=strict", "obs_type=1", "=3", "a=" + "(" * 300),
    "goal_function": ("math:pi", "math:sqrt", "math:nothing", "math", "a.b:c", ":", "os.path:exists", "file.txt:x"),
    "success_function": ("math:pi", "math:hypot", "math:nothing", "builtins:print", "no_file:x"),
    "expert_arg": ("leaning=0.3", "leaning=2", "leaning=a", "luck=1", "=", "seed=1"),
    "stage": ("open", "closed", "tune", "ablation", "speed", "race"),
    "device": ("cpu", "cuda", "meta", "cuda:99"),
    "settings": ("file.txt", "empty", "nothing"),
    "recipe": ("pose", "joint", "best"),
}


def options(command: str) -> st.SearchStrategy[list[str]]:
    """One to four options of a command, each with a value of the right or of another kind, or a flag."""

    def option(name: str) -> st.SearchStrategy[list[str]]:
        values = st.sampled_from(COMMON)
        if name in FITTING:
            values = st.sampled_from(FITTING[name]) | values
        word = "--" + name.replace("_", "-")
        return st.tuples(st.just(word), values).map(list) | st.just([word])

    names = list(inspect.signature(COMMANDS[command]).parameters)
    several = st.lists(st.sampled_from(names).flatmap(option), min_size=1, max_size=4)
    return several.map(lambda parts: [command, *chain.from_iterable(parts)])


BASE = {
    "collect": ["--out", "new", "--workers", "1"],
    "convert": ["--data", "lerobot:arm", "--out", "new"],
    "train": ["--data", "empty", "--out", "new"],
    "evaluate": ["--model", "model", "--out", "new", "--env", "grasp_envs/BallNav-v0"],
    "video": ["--model", "model", "--out", "new.gif", "--env", "grasp_envs/BallNav-v0"],
    "plan": ["--model", "model", "--goal-horizon", "5", "--out", "new"],
    "bench": ["--model", "model", "--out", "new", "--workers", "1"],
    "demo": ["--out", "new"],
}
"""What commands need, or what makes them quick. Later options win."""


def check(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before = sorted(place.rglob("*"))
    try:
        main(words)
    except Begun:
        shutil.rmtree(place / "new", ignore_errors=True)
    except SystemExit as end:
        said = capsys.readouterr().err
        assert end.code == 2, (end.code, said)
        if said.startswith("grasp-agent: "):
            text = said.removeprefix("grasp-agent: ").removesuffix("\n")
            known = text.endswith(ENDINGS) or "has no scripted expert" in text or "need the package" in text
            assert known or check_sentence(text) is None
        else:
            assert "--help" in said and "Traceback" not in said  # the options themselves cannot be read
        assert sorted(place.rglob("*")) == before
    else:
        assert not words


ENDINGS = ("No such file or directory", "Not a directory", "Is a directory", "File exists", "File name too long")
"""How the system's errors end, which name the file first."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Nothing of an example is left for the next one: `check` makes sure.
    @settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(options(command))
    def tried(words: list[str]) -> None:
        check([command, *BASE[command], *words[1:]], place, capsys)

    tried()


def test_every_word(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(st.lists(st.sampled_from([*COMMANDS, "--out", "--seed", "x", "--", "-h", "--help", *COMMON]), max_size=3))
    def tried(words: list[str]) -> None:
        if "-h" not in words and "--help" not in words:
            check(words, place, capsys)

    tried()


def test_what_is_right_begins(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else all of the above would pass with commands that refuse everything."""
    for command in COMMANDS:
        if command not in ("train", "convert"):  # which would need data
            with pytest.raises(Begun):
                main([command, *BASE[command]])
