"""A world model of planar pushing small enough for tests: untrained, 16 px frames."""

from __future__ import annotations

from grasp_agent.models import WorldModelConfig

TINY = WorldModelConfig(
    image_size=16,
    layout="planar_push",
    state_size=6,
    encoder_channels=4,
    encoder_keypoints=4,
    encoder_hidden=16,
    dynamics_hidden=16,
    dynamics_depth=1,
    decoder_channels=4,
)
