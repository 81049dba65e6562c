"""Rendered frames as observations, for environments whose observations hold no picture."""

from __future__ import annotations

import os
import sys
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.core.checks import whole_number

MOST_PIXELS = 4096
"""Side of the largest picture: a slip of the pen must not ask for all memory."""


class RenderedFrames(gym.ObservationWrapper[NDArray[np.uint8], Any, Any]):
    """Observations are what the environment renders, as square pictures.

    Args:
        env: made with `render_mode="rgb_array"`.
        side: height and width of the observations.

    Raises:
        TypeError: `side` is no whole number.
        ValueError: it is out of range, or the environment does not render arrays.
        RuntimeError: by `reset` and `step`, if rendering fails.
    """

    def __init__(self, env: gym.Env[Any, Any], side: int) -> None:
        side = whole_number("rendered", side, 1, MOST_PIXELS, " pixels of height and width")
        super().__init__(env)
        check_renders(env)
        self.side = side
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self._rendering: Any = None

    def observation(self, observation: Any) -> NDArray[np.uint8]:
        try:
            self._rendering = self.env.render()
        except Exception as error:  # graphics libraries fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RuntimeError(f"{self.env}: expected it to render a picture, got {reason[:200]}{_advice()}") from error
        return square(self._rendering, self.side)

    def render(self) -> Any:
        """What was rendered for the latest observation: rendering is slow, and others look at the same scene."""
        return self._rendering


def _advice() -> str:
    """What to try where rendering fails, if MuJoCo does it: without a screen it must be told how."""
    if "mujoco" not in sys.modules:
        return ""
    now = os.environ.get("MUJOCO_GL")
    others = " or ".join(f"MUJOCO_GL={name}" for name in ("egl", "osmesa") if name != now)
    return f"; on a machine without a screen set {others} (now {now or 'not set'})"


def check_renders(env: gym.Env[Any, Any]) -> None:
    """Check that an environment was made to render arrays.

    Raises:
        ValueError: it cannot, or was made with another render mode.
    """
    modes = env.metadata.get("render_modes", [])
    if env.render_mode != "rgb_array" or "rgb_array" not in modes:
        raise ValueError(
            f"{env}: expected an environment that renders arrays, got render_mode {env.render_mode!r} of {modes}"
        )


def image_side(space: spaces.Space[Any]) -> int | None:
    """Side of the first square colour image in an observation space, channels last or first, or None."""
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if isinstance(part, spaces.Box) and part.dtype == "uint8" and len(part.shape) == 3:
            height, width, channels = part.shape if part.shape[-1] == 3 else (*part.shape[1:], part.shape[0])
            if height == width and channels == 3:
                return int(height)
    return None


def square(picture: Any, side: int) -> NDArray[np.uint8]:
    """A uint8 picture [H, W, 3] between black bars, where it is not square, averaged down to [side, side, 3]."""
    # Pillow works in place of arrays of floats: between those and the small frames that are kept memory falls to
    # pieces, some megabytes a frame.
    image = Image.fromarray(np.asarray(picture))
    longest = max(image.size)
    if min(image.size) < longest:
        between_bars = Image.new("RGB", (longest, longest))
        between_bars.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        image = between_bars
    return np.array(image.resize((side, side), Image.Resampling.BOX))
