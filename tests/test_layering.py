"""The architecture as a test: imports point down only, and the two packages do not know each other."""

import ast
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
