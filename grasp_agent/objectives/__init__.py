"""What plans are judged by.

An objective answers two questions (the `Objective` protocol in core/types.py): `state_cost`, how bad a state is, and
`trajectory_cost`, the true cost of a predicted trajectory.
"""

from grasp_agent.objectives.goal_distance import GoalDistance, default_objective
from grasp_agent.objectives.rewards import Rewards
from grasp_agent.objectives.weighted_sum import WeightedSum

__all__ = ["GoalDistance", "Rewards", "WeightedSum", "default_objective"]
