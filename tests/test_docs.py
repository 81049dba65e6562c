"""What the documentation shows can be typed: Python runs, commands are understood, links lead somewhere.

The guide to vector environments has a test of its own, tests/agent/test_vector_guide.py.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import grasp_agent.planning
from grasp_agent import GRASPAgent
from grasp_agent.agent.agent import MPCAgent
from grasp_agent.cli import COMMANDS, main
from grasp_agent.core.types import Budget
from grasp_agent.models import save_pretrained
from grasp_agent.models.vector import VectorConfig, VectorModel

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs").glob("*.md"),
    ROOT / "benchmarks" / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "grasp_agent" / "pretrained").glob("*/README.md"),
]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(page: Path) -> list[str]:
    """The page's blocks of Python."""
    return PYTHON.findall(page.read_text(encoding="utf-8"))


def commands_of(page: Path) -> Iterator[str]:
    """The commands in the page's indented blocks, each in one line."""
    text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if found := re.match(r"(?: {4}|\$ |    [A-Z]  )\s*((?:[A-Z]+=\S+ )*(?:grasp-agent|python) .*)", line):
            yield re.sub(r"  +\(.*", "", found[1])


COMMANDS_SHOWN = sorted({(named(page), command) for page in PAGES for command in commands_of(page)})


def test_there_is_something_to_test() -> None:
    assert sum(len(code_of(page)) for page in PAGES) >= 10 and len(COMMANDS_SHOWN) >= 50


# ---- Python


@pytest.mark.parametrize(
    "page", [page for page in PAGES if code_of(page) and page.name != "vector_environments.md"], ids=named
)
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Block after block, as in a notebook, with as little planning as can be."""
    create = MPCAgent.__init__

    @functools.wraps(create)
    def quickly(self: Any, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **{**kwargs, "budget": Budget(iterations=1)})

    monkeypatch.setattr(MPCAgent, "__init__", quickly)
    monkeypatch.chdir(tmp_path)
    reads_vectors = VectorConfig(size=7, action_dim=2, hidden=8, outcome_hidden=8)
    save_pretrained(VectorModel(reads_vectors), tmp_path / "runs" / "train" / "model")
    make = functools.partial(gym.make, "grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=64)
    with closing(make(goal_horizon=5)) as env:
        # what earlier pages have made
        agent = GRASPAgent.from_pretrained("pusht", env.action_space)
        names: dict[str, Any] = {"env": env, "agent": agent, "picture": np.zeros((64, 64, 3), np.uint8)}
        if page.name == "planning.md":
            names |= vars(grasp_agent.planning)
        for code in code_of(page):
            exec(compile(code, str(page), "exec"), names)


# ---- commands


class Understood(Exception):
    """The command began, with these arguments."""


@pytest.fixture
def understanding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do nothing but say that they were understood."""

    def replaced(command: Any) -> Any:
        @functools.wraps(command)
        def begin(**arguments: Any) -> None:
            raise Understood(arguments)

        return begin

    for name, command in list(COMMANDS.items()):
        monkeypatch.setitem(COMMANDS, name, replaced(command))


@pytest.mark.usefixtures("understanding")
@pytest.mark.parametrize(("page", "command"), COMMANDS_SHOWN)
def test_commands_are_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in shlex.split(command, comments=True) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    if words[0] == "grasp-agent":
        with pytest.raises(Understood):
            main(words[1:])
    elif words[1].endswith(".py"):
        script = ROOT / words[1]
        assert script.is_file(), f"{page}: {words[1]}"


def test_a_wrong_command_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["collect", "--out", "x", "--colour", "red"])
    assert "colour" in capsys.readouterr().err


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading and target.suffix == ".md":
            assert heading in headings(target), link


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
