"""Episodes: collecting them, and reading them back memory-mapped."""

from grasp_agent.data.collect import CollectSettings, collect
from grasp_agent.data.dataset import EpisodeDataset

__all__ = ["CollectSettings", "EpisodeDataset", "collect"]
