"""World models: encoders, latent dynamics, decoder, saving and loading."""

from grasp_agent.models.io import from_pretrained, load_world_model, pretrained_names, save_pretrained
from grasp_agent.models.world_model import LatentWorldModel, WorldModelConfig

__all__ = [
    "LatentWorldModel",
    "WorldModelConfig",
    "from_pretrained",
    "load_world_model",
    "pretrained_names",
    "save_pretrained",
]
