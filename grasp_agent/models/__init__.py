"""World models: encoders, latent dynamics, decoders, proposals, saving and loading."""

from grasp_agent.models.dino_wm.backbone import load_backbone
from grasp_agent.models.dino_wm.checkpoint import load_dino_wm_checkpoint
from grasp_agent.models.dino_wm.model import DinoWMConfig, DinoWorldModel
from grasp_agent.models.io import from_pretrained, load_world_model, pretrained_names, save_pretrained
from grasp_agent.models.joint_embedding.config import JointEmbeddingConfig
from grasp_agent.models.joint_embedding.model import JointEmbeddingModel
from grasp_agent.models.latent.config import WorldModelConfig
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.models.planar_push.layout import PLANAR_PUSH
from grasp_agent.models.registry import register_model
from grasp_agent.models.sprites import SpritesModel
from grasp_agent.models.vector import VectorModel

__all__ = [
    "PLANAR_PUSH",
    "DinoWMConfig",
    "DinoWorldModel",
    "JointEmbeddingConfig",
    "JointEmbeddingModel",
    "LatentWorldModel",
    "SpritesModel",
    "VectorModel",
    "WorldModelConfig",
    "from_pretrained",
    "load_backbone",
    "load_dino_wm_checkpoint",
    "load_world_model",
    "pretrained_names",
    "register_model",
    "save_pretrained",
]
