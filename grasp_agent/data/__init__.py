"""Episodes: collecting them, converting those of other programs, and reading them back memory-mapped."""

from grasp_agent.data.collect import CollectSettings, collect
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.data.foreign.convert import convert

__all__ = ["CollectSettings", "EpisodeDataset", "collect", "convert"]
