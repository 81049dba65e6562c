"""The pictures in an observation, checked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from grasp_agent.core.types import Observation

PIXEL_KEY = "pixels"
"""Where the pictures are in a mapping."""


def frames_of(obs: Observation, size: int) -> Tensor:
    """The uint8 images [B, size, size, 3] of an observation, which may be the whole of it.

    Raises:
        ValueError: the images have another shape or are not uint8.
    """
    frames = obs[PIXEL_KEY] if isinstance(obs, Mapping) else obs
    if frames.dtype != torch.uint8 or frames.ndim != 4 or tuple(frames.shape[1:]) != (size, size, 3):
        raise ValueError(
            f"encode: expected uint8 images of shape [B, {size}, {size}, 3], got {frames.dtype} of shape "
            f"{list(frames.shape)}; try the environment's resolution={size}"
        )
    return frames
