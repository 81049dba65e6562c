"""World models of observations that are vectors already."""

from grasp_agent.models.vector.config import VectorConfig
from grasp_agent.models.vector.model import VectorModel

__all__ = ["VectorConfig", "VectorModel"]
