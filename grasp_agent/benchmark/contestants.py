"""Who takes part in the planning benchmark: the planners, GRASP's ablations, and what tuning may try.

Tuning is random search, the same number of trials for every planner, the first of them the planner's defaults.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from grasp_agent.benchmark.episodes import Contestant
from grasp_agent.core.types import WorldModel
from grasp_agent.planning import CEM, GRASP, PLANNERS, GradientDescent, planner_for

Settings = dict[str, Any]
"""Hyperparameters by name."""

SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "grasp": {
        "restarts": (4, 8, 16, 24),
        "survivors": (None, 4, 6),
        "branches": (4, 8, 16),
        "screen": (4, 8, 16),
        "sync_every": (1, 4),
        "sync_steps": (1, 2),
        "action_rate": (0.005, 0.05),
        "goal_weight": (0.0, 0.1),
        "reseed": (0.0, 1.0),
    },
    "gauss_newton": {
        "restarts": (4, 8, 16, 24),
        "damping": (0.01, 0.1, 1.0),
        "init_scale": (0.3, 0.5, 0.8),
        "screen": (4, 8, 16, 32),
    },
    "gd": {
        "restarts": (2, 4, 8, 16),
        "rate": (0.01, 0.02, 0.05, 0.1),
        "init_scale": (0.3, 0.5, 0.8),
        "screen": (4, 8, 16, 32),
    },
    "cem": {
        "samples": (32, 64, 128),
        "elites": (4, 8, 16),
        "init_scale": (0.1, 0.2, 0.35, 0.5),
        "floor": (0.01, 0.03, 0.1),
        "correlation": (0.0, 0.5, 0.9),
        "screen": (8, 32, 128),
    },
    "icem": {
        "samples": (32, 64, 128),
        "elites": (4, 8, 16),
        "init_scale": (0.1, 0.2, 0.35, 0.5),
        "momentum": (0.0, 0.1, 0.3),
        "exponent": (0.0, 1.0, 2.0, 3.0),
        "screen": (8, 32, 128),
    },
    "mppi": {
        "samples": (32, 64, 128),
        "temperature": (0.01, 0.03, 0.1, 0.3),
        "scale": (0.1, 0.2, 0.3, 0.5),
        "correlation": (0.0, 0.5, 0.9),
        "screen": (8, 32, 128),
    },
    "latco": {
        "restarts": (4, 8, 16),
        "action_rate": (0.01, 0.02, 0.05),
        "state_rate": (0.03, 0.1, 0.3),
        "init_defect_weight": (0.1, 1.0, 10.0),
        "dual_rate": (0.03, 0.1, 0.3),
        "screen": (4, 8, 16, 32),
    },
    "shooting": {
        "samples": (32, 64, 128, 256),
        "scale": (0.2, 0.35, 0.5, 0.8),
        "correlation": (0.5, 0.9, 0.97),
    },
}
"""What tuning may choose for every planner."""


def planners(
    names: Iterable[str],
    model: WorldModel,
    settings: Mapping[str, Settings] | None = None,
    proposals: bool = True,
) -> dict[str, Contestant]:
    """Planners as contestants, with settings of their own beside the defaults; the rest as `planner_for`.

    Args:
        names: of the planners.
        model: that they plan with.
        settings: of planners by name, whether they take part or not.
        proposals: as in `Contestant`.

    Raises:
        ValueError: as `planner_for`.
    """
    settings = settings or {}
    known = {name: planner_for(name, model, **settings.get(name, {})) for name in dict.fromkeys((*names, *settings))}
    return {name: Contestant(known[name], proposals) for name in names}


def ablations(full: Contestant) -> dict[str, Contestant]:
    """GRASP with one thing changed at a time, where that changes it; the others are compared to the first, "full"."""
    grasp = full.planner
    if not isinstance(grasp, GRASP):
        raise ValueError(f"ablation: expected GRASP, got {type(grasp).__name__}")
    gentle = GradientDescent(restarts=1, rate=0.02)
    changed: dict[str, Settings] = {
        "full": {},
        "no sync": {"sync_every": None, "survivors": None},
        "gradient sync, 4 steps": {"sync": gentle, "sync_steps": 4},
        "CEM sync, 2 rounds": {"sync": CEM(samples=16, elites=4), "sync_steps": 2},
        "next to no lifted phase": {"sync_every": 1, "action_rate": 1e-9},
        "state gradients": {"stop_gradient": False},
        "goal shaping 0": {"goal_weight": 0.0},
        "goal shaping 0.1": {"goal_weight": 0.1},
        "goal shaping 1": {"goal_weight": 1.0},
        "sync every 4": {"sync_every": 4},
        "sync every 16": {"sync_every": 16},
        "sync every 16, no noise": {"sync_every": 16, "noise": 0.0},
        "sync every 16, noise x 4": {"sync_every": 16, "noise": 4 * grasp.noise},
        "all survive": {"survivors": None},
        "no branches": {"branches": 0},
        "8 branches": {"branches": 8},
        "no caution": {"caution": 0.0},
        "1 restart": {"restarts": 1},
        "4 restarts": {"restarts": 4},
        "8 restarts": {"restarts": 8},
        "paper's proportions": {"sync": gentle, **PAPER},
    }
    variants = {name: replace(grasp, **change) for name, change in changed.items()}
    different = {name: variant for name, variant in variants.items() if name == "full" or variant != grasp}
    return {name: Contestant(variant, full.proposals) for name, variant in different.items()}


PAPER: Settings = {
    "sync_every": 100, "sync_steps": 10, "reseed": None, "survivors": None, "branches": 0, "caution": 0.0
}  # fmt: skip
"""What makes GRASP cycle as in its paper."""


def draw_trials(name: str, trials: int, seed: int = 0) -> list[Settings]:
    """Different settings of a planner from its search space, its defaults (no settings) first.

    Raises:
        ValueError: no search space is declared for the planner, or it holds fewer settings than asked for.
    """
    if name not in SPACES:
        raise ValueError(f"tune: expected a planner with a search space ({', '.join(SPACES)}), got {name!r}")
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn: list[Settings] = [{}]
    for _ in range(50 * trials):
        if len(drawn) >= trials:
            break
        candidate = {field: values[generator.integers(len(values))] for field, values in SPACES[name].items()}
        try:
            PLANNERS[name](**candidate)
        except ValueError:  # values that do not go together, like more elites than samples
            continue
        if candidate not in drawn:
            drawn.append(candidate)
    if len(drawn) < trials:
        raise ValueError(f"tune: expected at most {len(drawn)} trials of {name}'s search space, got {trials}")
    return drawn


def load_settings(path: str | Path) -> dict[str, Settings]:
    """The chosen settings in a tuning.json.

    Raises:
        ValueError: missing, damaged, or another kind of file.
    """
    try:
        content = json.loads(Path(path).read_text())
        return {name: dict(found["chosen"]) for name, found in content["planners"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: expected the tuning.json of `bench --stage tune`, got none ({reason})") from None


def describe(contestant: Contestant) -> dict[str, Any]:
    """What tells a contestant from others, JSON-serialisable."""
    planner = contestant.planner
    if not is_dataclass(planner):
        return {"planner": planner.name, "repr": repr(planner), "proposals": contestant.proposals}
    values = {f.name: getattr(planner, f.name) for f in fields(planner)}
    # A planner within a planner as its repr, which says its class as well.
    plain = {name: repr(value) if is_dataclass(value) else value for name, value in values.items()}
    return {"planner": planner.name, **plain, "proposals": contestant.proposals}
