"""Planners: one file each, behind one protocol and one solve loop (base.py)."""

from dataclasses import replace
from typing import Any

from grasp_agent.core.rows import replace_rows, select_rows, where_rows
from grasp_agent.core.types import WorldModel
from grasp_agent.planning.grasp import GRASP
from grasp_agent.planning.rollout import rollout, select_problem
from grasp_agent.planning.solve import Best, Planner, PlannerState, solve
from grasp_agent.planning.solvers.cem import CEM
from grasp_agent.planning.solvers.collocation import LatCo
from grasp_agent.planning.solvers.gauss_newton import GaussNewton
from grasp_agent.planning.solvers.gradient import GradientDescent
from grasp_agent.planning.solvers.icem import ICEM
from grasp_agent.planning.solvers.mppi import MPPI
from grasp_agent.planning.solvers.shooting import RandomShooting

PLANNERS: dict[str, type[Planner[Any]]] = {
    planner.name: planner for planner in (GRASP, GradientDescent, GaussNewton, CEM, ICEM, MPPI, LatCo, RandomShooting)
}
"""Every planner by its name."""


def planner_for(name: str, model: WorldModel, **settings: Any) -> Planner[Any]:
    """A planner by its name, with the defaults that suit a model's latent but for `settings`.

    Raises:
        ValueError: an unknown name, or settings that the planner does not know or refuses.
    """
    if name not in PLANNERS:
        raise ValueError(f"planner: expected one of {', '.join(PLANNERS)}, got {name!r}")
    default: Any = GRASP.suited_to(model) if name == GRASP.name else PLANNERS[name]()
    try:
        planner: Planner[Any] = replace(default, **settings)
    except TypeError as error:
        raise ValueError(f"settings of {name}: expected its hyperparameters, got others ({error})") from None
    return planner


__all__ = [
    "CEM",
    "GRASP",
    "ICEM",
    "MPPI",
    "PLANNERS",
    "Best",
    "GaussNewton",
    "GradientDescent",
    "LatCo",
    "Planner",
    "PlannerState",
    "RandomShooting",
    "planner_for",
    "replace_rows",
    "rollout",
    "select_problem",
    "select_rows",
    "solve",
    "where_rows",
]
