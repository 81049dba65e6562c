"""What plans are judged by."""

from grasp_agent.objectives.goal_distance import GoalDistance, WeightedSum, default_objective

__all__ = ["GoalDistance", "WeightedSum", "default_objective"]
