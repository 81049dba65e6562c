"""Rendered frames as observations, for environments whose observations hold no picture."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.nn import functional


class RenderedFrames(gym.ObservationWrapper[NDArray[np.uint8], Any, Any]):
    """Observations are what the environment renders, as square pictures.

    Args:
        env: made with `render_mode="rgb_array"`.
        side: height and width of the observations.

    Raises:
        ValueError: the environment does not render arrays.
    """

    def __init__(self, env: gym.Env[Any, Any], side: int) -> None:
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise ValueError(f"{env}: expected an environment that renders arrays, got render_mode {env.render_mode!r}")
        self.side = side
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)

    def observation(self, observation: Any) -> NDArray[np.uint8]:
        return square(np.asarray(self.env.render()), self.side)


def square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture [H, W, 3] between black bars, where it is not square, averaged down to [side, side, 3]."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    top, left = (longest - height) // 2, (longest - width) // 2
    padded = np.zeros((longest, longest, 3), np.float32)
    padded[top : top + height, left : left + width] = picture
    shrunk = functional.interpolate(torch.from_numpy(padded).permute(2, 0, 1).unsqueeze(0), (side, side), mode="area")
    frame: NDArray[np.uint8] = shrunk[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return frame
