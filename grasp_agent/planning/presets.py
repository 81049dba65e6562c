"""Planners by name, with defaults that suit a model, and settings of their parts by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from grasp_agent.core.checks import shown
from grasp_agent.core.types import Objective, WorldModel
from grasp_agent.planning.combine.multi_start import MultiStart
from grasp_agent.planning.grasp import GRASP
from grasp_agent.planning.prior import Prior
from grasp_agent.planning.solvers.cem import CEM
from grasp_agent.planning.solvers.collocation import LatCo
from grasp_agent.planning.solvers.gauss_newton import GaussNewton
from grasp_agent.planning.solvers.gradient import GradientDescent
from grasp_agent.planning.solvers.icem import ICEM
from grasp_agent.planning.solvers.lbfgs import LBFGS
from grasp_agent.planning.solvers.mppi import MPPI
from grasp_agent.planning.solvers.shooting import RandomShooting
from grasp_agent.planning.solvers.solver import AnySolver


def _sampling(solver: AnySolver, candidates: int = 32) -> MultiStart:
    """One plan: solvers that sample around a mean look widely by themselves."""
    return MultiStart(solver, restarts=1, candidates=candidates, refresh=0)


PLANNERS: dict[str, Callable[[WorldModel], MultiStart]] = {
    "grasp": GRASP.for_model,
    "gd": lambda model: MultiStart(GradientDescent()),
    "gauss_newton": lambda model: MultiStart(GaussNewton()),
    "lbfgs": lambda model: MultiStart(LBFGS()),
    "cem": lambda model: _sampling(CEM()),
    "icem": lambda model: _sampling(ICEM()),
    "mppi": lambda model: _sampling(MPPI()),
    "latco": lambda model: MultiStart(LatCo()),
    "shooting": lambda model: _sampling(RandomShooting(), candidates=0),
    "prior": lambda model: Prior(),
}
"""Every planner by the name that users type."""


def planner_for(name: str, model: WorldModel, objective: Objective | None = None, **settings: Any) -> MultiStart:
    """A planner by its name, with the defaults that suit a model but for `settings` (see `with_settings`).

    Args:
        name: one of `PLANNERS`.
        model: the world model.
        objective: what plans will be judged by, if it is another than the distance to a goal.
        settings: see `with_settings`.

    Raises:
        ValueError: an unknown name, or settings that the planner does not know or refuses.
    """
    if not isinstance(name, str) or name not in PLANNERS:
        raise ValueError(f"planner: expected one of {', '.join(PLANNERS)}, got {shown(name)}")
    planner = GRASP.for_model(model, objective) if name == "grasp" else PLANNERS[name](model)
    return with_settings(planner, settings)


def with_settings(planner: MultiStart, settings: dict[str, Any]) -> MultiStart:
    """A planner with some settings changed, by their path: {"restarts": 8, "solver.damping": 0.01}.

    Raises:
        TypeError: no planner or solver, no dictionary by path, or a part of another kind.
        ValueError: a path that leads nowhere, or a value that is refused.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(path, str) for path in settings):
        raise TypeError(f"settings: expected a dictionary such as {{'solver.damping': 0.01}}, got {shown(settings)}")
    result: MultiStart = _changed(planner, {tuple(path.split(".")): value for path, value in settings.items()})
    return result


def _changed(part: Any, settings: Mapping[tuple[str, ...], Any], at: tuple[str, ...] = ()) -> Any:
    """A part with all its settings changed at once: some suit each other only. `at` is where the part is."""
    known = [f.name for f in fields(part)] if is_dataclass(part) and not isinstance(part, type) else []
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *further), value in settings.items():
        if name not in known:
            raise ValueError(
                f"setting {'.'.join((*at, name, *further))!r}: expected one of"
                f" {', '.join(known) or 'no further names'} at {name!r} of {type(part).__name__}"
            )
        inner.setdefault(name, {})[tuple(further)] = value
    changes = {}
    for name, found in inner.items():
        value = found.pop((), getattr(part, name))
        changes[name] = _changed(value, found, (*at, name)) if found else value
    return replace(part, **changes) if changes else part
