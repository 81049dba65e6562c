"""Planning: solvers that improve one plan, what composes them into planners, and the one loop `solve`."""

from grasp_agent.planning.combine.alternate import Alternate
from grasp_agent.planning.combine.multi_start import MultiStart, Search
from grasp_agent.planning.combine.robust_choice import RobustChoice
from grasp_agent.planning.combine.tail_resample import TailResample
from grasp_agent.planning.grasp import GRASP
from grasp_agent.planning.presets import PLANNERS, planner_for, with_settings
from grasp_agent.planning.prior import Prior
from grasp_agent.planning.rollout import rollout
from grasp_agent.planning.solve import Progress, as_planner, begin, iterate, shift, solve
from grasp_agent.planning.solvers.cem import CEM
from grasp_agent.planning.solvers.collocation import LatCo
from grasp_agent.planning.solvers.gauss_newton import GaussNewton
from grasp_agent.planning.solvers.gradient import GradientDescent
from grasp_agent.planning.solvers.icem import ICEM
from grasp_agent.planning.solvers.lbfgs import LBFGS
from grasp_agent.planning.solvers.lifted import Lifted
from grasp_agent.planning.solvers.mppi import MPPI
from grasp_agent.planning.solvers.shooting import RandomShooting
from grasp_agent.planning.solvers.solver import Solver

__all__ = [
    "CEM",
    "GRASP",
    "ICEM",
    "LBFGS",
    "MPPI",
    "PLANNERS",
    "Alternate",
    "GaussNewton",
    "GradientDescent",
    "LatCo",
    "Lifted",
    "MultiStart",
    "Prior",
    "Progress",
    "RandomShooting",
    "RobustChoice",
    "Search",
    "Solver",
    "TailResample",
    "as_planner",
    "begin",
    "iterate",
    "planner_for",
    "rollout",
    "shift",
    "solve",
    "with_settings",
]
