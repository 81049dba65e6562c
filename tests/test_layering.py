"""The architecture as a test: imports point down, the two packages do not know each other, a task keeps to its file."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "grasp_agent"
ENVS = ROOT / "envs" / "grasp_envs"

# From the ground up. A unit (module or sub-package of grasp_agent) may import units of lower levels only.
LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"core", "files"}),
    frozenset({"models", "objectives"}),
    frozenset({"planning"}),
    frozenset({"agent"}),
    frozenset({"tasks"}),
    frozenset({"rollouts"}),
    frozenset({"data"}),
    # Training reads data sets.
    frozenset({"training", "evaluation"}),
    frozenset({"benchmark", "explain"}),
    frozenset({"cli"}),
)
LEVEL_OF = {unit: level for level, units in enumerate(LEVELS) for unit in units}


def imported_modules(path: Path, package: str) -> Iterator[str]:
    """Absolute names of what a file of `package` imports anywhere, `from p import m` also as `p.m`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def files_of(root: Path) -> list[tuple[Path, str]]:
    """Every Python file under a package's folder with the dotted name of the package it is in."""
    found = sorted(root.rglob("*.py"))
    return [(path, ".".join(path.relative_to(root.parent).parent.parts)) for path in found]


def violations(unit: str, imported: str) -> bool:
    """Whether `unit` of grasp_agent must not import the module `imported`."""
    parts = imported.split(".")
    if parts[0] != "grasp_agent" or len(parts) == 1:
        return False
    other = parts[1]
    return other != unit and other in LEVEL_OF and LEVEL_OF[other] >= LEVEL_OF[unit]


@pytest.mark.parametrize(
    ("unit", "imported", "wrong"),
    [
        ("core", "grasp_agent.models.io", True),
        ("models", "grasp_agent.core.types", False),
        ("models", "grasp_agent.models.io", False),
        ("models", "grasp_agent.objectives", True),
        ("planning", "grasp_agent.agent.agent", True),
        ("evaluation", "grasp_agent.training.loop", True),
        ("training", "grasp_agent.data", False),
        ("data", "grasp_agent.training.loop", True),
        ("cli", "grasp_agent.agent.agent", False),
        ("core", "torch.types", False),
    ],
)
def test_the_rule_itself(unit: str, imported: str, wrong: bool) -> None:
    assert violations(unit, imported) is wrong


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("from ..core.types import Plan\nfrom . import io\nimport grasp_agent.core.rng\n")
    names = set(imported_modules(file, "grasp_agent.models"))
    assert {"grasp_agent.core.types", "grasp_agent.models.io", "grasp_agent.core.rng"} <= names


def test_every_unit_has_a_level() -> None:
    units = {path.relative_to(AGENT).parts[0].removesuffix(".py") for path, _ in files_of(AGENT)}
    assert units - {"__init__"} <= set(LEVEL_OF), "give the new module its place in LEVELS"


def test_imports_point_down() -> None:
    wrong = []
    for path, package in files_of(AGENT):
        unit = path.relative_to(AGENT).parts[0].removesuffix(".py")
        if unit == "__init__":
            continue
        wrong += [
            f"{path.relative_to(ROOT)}: {name}" for name in imported_modules(path, package) if violations(unit, name)
        ]
    assert not wrong, "these imports point up or sideways:\n" + "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize(("root", "foreign"), [(AGENT, "grasp_envs"), (ENVS, "grasp_agent")])
def test_the_two_packages_do_not_know_each_other(root: Path, foreign: str) -> None:
    files = files_of(root)
    assert files
    wrong = [
        path.name
        for path, package in files
        for name in imported_modules(path, package)
        if name.split(".")[0] == foreign
    ]
    assert not wrong


def test_importing_grasp_agent_is_light() -> None:
    heavy = [
        "pymunk",
        "stable_baselines3",
        "matplotlib",
        "imageio",
        "pygame",
        "transformers",
        "huggingface_hub",
    ]
    code = f"import sys, grasp_agent; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stdout + run.stderr


# ---- what is said of one task ---------------------------------------------------------------------------------

PUSH_T = re.compile(r"push[-_ ]?t\b|pusht|pusher|planar[-_ ]?push", re.IGNORECASE)
# Where Push-T may be named: its task, models that know the layout of a planar push, and what was trained on it.
PUSH_T_ROOMS = ("tasks/pusht.py", "models/", "pretrained/")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("Push-T", True),
        ("PushTReach", True),
        ("push_t", True),
        ("the pusher's place", True),
        ("PlanarPush", True),
        ("a planar push", True),
        ("push to the wall", False),
        ("pushed through", False),
        ("planar", False),
    ],
)
def test_what_counts_as_naming_push_t(words: str, named: bool) -> None:
    assert (PUSH_T.search(words) is not None) is named


def test_only_its_task_and_its_models_name_push_t() -> None:
    naming = []
    for path, _ in files_of(AGENT):
        name = path.relative_to(AGENT).as_posix()
        if name.startswith(PUSH_T_ROOMS):
            continue
        lines = [name, *path.read_text(encoding="utf-8").splitlines()]  # line 0 is the file's own name
        naming += [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines) if PUSH_T.search(line)]
    assert not naming, "what knows Push-T belongs to tasks/pusht.py:\n" + "\n".join(naming)
