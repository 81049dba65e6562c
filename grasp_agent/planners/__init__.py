"""Planners: one file each, behind one protocol and one solve loop (base.py)."""

from typing import Any

from grasp_agent.planners.base import Best, Planner, PlannerState, solve
from grasp_agent.planners.cem import CEM
from grasp_agent.planners.gauss_newton import GaussNewton
from grasp_agent.planners.gradient import GradientDescent
from grasp_agent.planners.grasp import GRASP
from grasp_agent.planners.icem import ICEM
from grasp_agent.planners.latco import LatCo
from grasp_agent.planners.mppi import MPPI
from grasp_agent.planners.rollouts import rollout, select_problem
from grasp_agent.planners.rows import replace_rows, select_rows, where_rows
from grasp_agent.planners.shooting import RandomShooting

PLANNERS: dict[str, type[Planner[Any]]] = {
    planner.name: planner for planner in (GRASP, GradientDescent, GaussNewton, CEM, ICEM, MPPI, LatCo, RandomShooting)
}
"""Every planner by its name."""

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
    "replace_rows",
    "rollout",
    "select_problem",
    "select_rows",
    "solve",
    "where_rows",
]
