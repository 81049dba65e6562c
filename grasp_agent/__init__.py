"""Any learned visual world model as a closed-loop Gymnasium agent, planned with GRASP."""

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget, Objective, Plan, Problem, Status, WorldModel
from grasp_agent.models import LatentWorldModel, WorldModelConfig, load_world_model
from grasp_agent.objectives import GoalDistance, WeightedSum
from grasp_agent.planning import (
    CEM,
    GRASP,
    LBFGS,
    PLANNERS,
    GaussNewton,
    GradientDescent,
    MultiStart,
    RandomShooting,
    solve,
)

__version__ = "0.1.0"

__all__ = [
    "CEM",
    "GRASP",
    "LBFGS",
    "PLANNERS",
    "Budget",
    "GRASPAgent",
    "GaussNewton",
    "GoalDistance",
    "GradientDescent",
    "LatentWorldModel",
    "MPCAgent",
    "MultiStart",
    "Objective",
    "Plan",
    "Problem",
    "RandomShooting",
    "Status",
    "WeightedSum",
    "WorldModel",
    "WorldModelConfig",
    "load_world_model",
    "solve",
]
