"""Who takes part in the planning benchmark: the planners, GRASP's ablations, and what tuning may try.

Tuning is random search, the same number of trials for every planner, the first of them the planner's defaults.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from grasp_agent.benchmark.episodes import Contestant
from grasp_agent.core.types import WorldModel
from grasp_agent.files.digest import stable_repr
from grasp_agent.planning import (
    CEM,
    PLANNERS,
    Alternate,
    GradientDescent,
    Lifted,
    MultiStart,
    TailResample,
    planner_for,
    with_settings,
)

Settings = dict[str, Any]
"""Hyperparameters by name."""

_STARTS = {"restarts": (2, 4, 8, 16, 24), "candidates": (4, 8, 16, 32), "init_scale": (0.3, 0.5, 0.8)}
_SAMPLES = {"solver.samples": (32, 64, 128), "candidates": (8, 32, 128)}
_ELITES = {"solver.elites": (4, 8, 16), "solver.init_scale": (0.1, 0.2, 0.35, 0.5)}

SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "grasp": {
        **_STARTS,
        "halving": ((), ((2, 4),), ((3, 6),)),
        "resample": (None, TailResample(8, first=1, every=2), TailResample(8, first=2, every=3)),
        "solver.steps": ((1, 1), (2, 1), (1, 4)),
        "solver.then.action_rate": (0.005, 0.05),
        "solver.then.goal_weight": (0.0, 0.1),
        "solver.then.init_states": ("rollout", "bent"),
    },
    "gauss_newton": {**_STARTS, "solver.damping": (0.01, 0.1, 1.0)},
    "lbfgs": {**_STARTS, "solver.memory": (4, 8, 16)},
    "gd": {**_STARTS, "solver.rate": (0.01, 0.02, 0.05, 0.1)},
    "cem": {**_SAMPLES, **_ELITES, "solver.floor": (0.01, 0.03, 0.1), "solver.correlation": (0.0, 0.5, 0.9)},
    "icem": {**_SAMPLES, **_ELITES, "solver.momentum": (0.0, 0.1, 0.3), "solver.exponent": (0.0, 1.0, 2.0, 3.0)},
    "mppi": {
        **_SAMPLES,
        "solver.temperature": (0.01, 0.03, 0.1, 0.3),
        "solver.scale": (0.1, 0.2, 0.3, 0.5),
        "solver.correlation": (0.0, 0.5, 0.9),
    },
    "latco": {
        **_STARTS,
        "solver.action_rate": (0.01, 0.02, 0.05),
        "solver.state_rate": (0.03, 0.1, 0.3),
        "solver.init_defect_weight": (0.1, 1.0, 10.0),
        "solver.dual_rate": (0.03, 0.1, 0.3),
    },
    "shooting": {
        "solver.samples": (32, 64, 128, 256),
        "solver.scale": (0.2, 0.35, 0.5, 0.8),
        "solver.correlation": (0.5, 0.9, 0.97),
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


def equal_parts(contestants: Mapping[str, Contestant], parts: MultiStart) -> dict[str, Contestant]:
    """Every contestant's solver with the same restarts, initial guesses, halving, other endings and choice.

    Args:
        contestants: whose solvers take part.
        parts: whose parts they all get.
    """
    return {
        name: replace(contestant, planner=replace(parts, solver=contestant.planner.solver, iterations=None))
        for name, contestant in contestants.items()
    }


def ablations(full: Contestant) -> dict[str, Contestant]:
    """GRASP with one thing changed at a time, where that changes it; the others are compared to the first, "full".

    Raises:
        ValueError: a planner that is no alternation of a serial solver and the lifted iteration.
    """
    grasp, alternate = full.planner, full.planner.solver
    if not (isinstance(alternate, Alternate) and isinstance(alternate.then, Lifted)):
        raise ValueError(f"ablation: expected GRASP, got {grasp!r}")
    lifted, gentle = alternate.then, GradientDescent(rate=0.02)
    paper: Settings = {"solver.steps": (10, 100), "resample": None, "halving": (), "select": None}
    more: Settings = {"solver.steps": (1, 4)}
    changed: dict[str, Settings] = {
        "full": {},
        "serial solver alone": {"solver": alternate.first},
        "lifted iteration alone": {"solver": lifted, "halving": (), "resample": None},
        "gradient descent as serial solver": {"solver.first": gentle, "solver.steps": (4, 1)},
        "CEM as serial solver": {"solver.first": CEM(samples=16, elites=4), "solver.steps": (2, 1)},
        "state gradients": {"solver.then.stop_gradient": False},
        "goal shaping 0": {"solver.then.goal_weight": 0.0},
        "goal shaping 1": {"solver.then.goal_weight": 1.0},
        "goal shaping fades": {"solver.then.anneal_goal": True},
        "4 lifted iterations": more,
        "4, no noise": {**more, "solver.then.noise": 0.0},
        "4, noise x 4": {**more, "solver.then.noise": 4 * lifted.noise},
        "4, constant noise, drawn every 2": {**more, "solver.then.anneal": None, "solver.then.resample": 2},
        "4, from a line": {**more, "solver.then.init_states": "line"},
        "4, from the bent rollout": {**more, "solver.then.init_states": "bent"},
        "4, from noise": {**more, "solver.then.init_states": "noise", "solver.then.init_noise": 1.0},
        "4, gradients clipped and balanced": {**more, "solver.then.clip": 1.0, "solver.then.balance": True},
        "4, windows of 20 steps": {**more, "solver.then.window": 20},
        "no halving": {"halving": ()},
        "no other endings": {"resample": None},
        "8 other endings": {"resample": TailResample(8, alternate.steps[0], sum(alternate.steps))},
        "no robust choice": {"select": None},
        "1 restart": {"restarts": 1, "halving": ()},
        "4 restarts": {"restarts": 4, "halving": ()},
        "8 restarts": {"restarts": 8, "halving": ()},
        "the paper's proportions": {"solver.first": gentle, **paper},
    }
    variants = {name: with_settings(grasp, change) for name, change in changed.items()}
    different = {name: variant for name, variant in variants.items() if name == "full" or variant != grasp}
    return {name: Contestant(variant, full.proposals) for name, variant in different.items()}


def draw_trials(name: str, model: WorldModel, trials: int, seed: int = 0) -> list[Settings]:
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
            with_settings(PLANNERS[name](model), candidate)
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
        return {
            name: {path: _value(value) for path, value in found["chosen"].items()}
            for name, found in content["planners"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: expected the tuning.json of `bench --stage tune`, got none ({reason})") from None


def _value(value: Any) -> Any:
    """A setting as it was before it was written: tuples for lists, and parts for what they are made of."""
    if isinstance(value, list):
        return tuple(_value(part) for part in value)
    return TailResample(**value) if isinstance(value, dict) else value


def describe(contestant: Contestant) -> dict[str, Any]:
    """What tells a contestant from others, JSON-serialisable."""
    return {"planner": stable_repr(contestant.planner), "proposals": contestant.proposals}
