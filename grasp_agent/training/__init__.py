"""Training world models on collected episodes."""

from grasp_agent.training.recipe import RECIPES, Recipe, train

__all__ = ["RECIPES", "Recipe", "train"]
