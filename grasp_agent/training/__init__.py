"""Training world models on collected episodes."""

from grasp_agent.training.joint_recipe import JointRecipe
from grasp_agent.training.latent import LatentRecipe
from grasp_agent.training.patches import DinoWMRecipe
from grasp_agent.training.recipe import RECIPES, Recipe, make_recipe, register_recipe, task_of
from grasp_agent.training.sprites_recipe import SpritesRecipe
from grasp_agent.training.train import train
from grasp_agent.training.vector_recipe import VectorRecipe

__all__ = [
    "RECIPES",
    "DinoWMRecipe",
    "JointRecipe",
    "LatentRecipe",
    "Recipe",
    "SpritesRecipe",
    "VectorRecipe",
    "make_recipe",
    "register_recipe",
    "task_of",
    "train",
]
