"""Training world models on collected episodes."""

from grasp_agent.training.patches import DinoWMRecipe, dino_wm_recipe, train_dino_wm
from grasp_agent.training.recipe import RECIPES, Recipe, train

__all__ = ["RECIPES", "DinoWMRecipe", "Recipe", "dino_wm_recipe", "train", "train_dino_wm"]
