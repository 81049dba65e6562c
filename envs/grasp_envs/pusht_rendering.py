"""Push-T pictures from signed distances: anti-aliased, sub-pixel exact, plain NumPy.

A pixel's share of a shape is clip(0.5 - d, 0, 1), with d the signed distance [pixels] from the pixel's centre
to the shape's outline. Shapes are blended only inside the window of pixels they can touch, which is what
makes this fast. Colours are gym-pusht's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from grasp_envs.pusht_simulation import AGENT_RADIUS, ARENA, Pose

Image = NDArray[np.uint8]
_Window = tuple[slice, slice]

WHITE = (255, 255, 255)
WALL_COLOUR = (211, 211, 211)
AGENT_COLOUR = (65, 105, 225)
BLOCK_COLOUR = (119, 136, 153)
GOAL_COLOUR = (144, 238, 144)
GHOST_AGENT_COLOUR = (160, 190, 245)


class PushTRenderer:
    """Draws square images of one size; `resolution` is the side in pixels.

    Args:
        resolution: side of the images, in pixels.
    """

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self._scale = resolution / ARENA
        # World coordinate of every pixel centre along either axis.
        self._centres = ((np.arange(resolution) + 0.5) / self._scale).astype(np.float32)
        self._empty = np.full((resolution, resolution, 3), 255, dtype=np.uint8)
        # The walls are thinner than a pixel, too thin for a distance to tell their share of it: that of the
        # square 3..508 less that of the square 7..504 is exact.
        outer, inner = self._share_of_square(3.0, 508.0), self._share_of_square(7.0, 504.0)
        _mix(self._empty, _EVERYWHERE, outer - inner, _WALL)
        self._backdrops: dict[tuple[Pose | None, tuple[float, float] | None], Image] = {}

    def draw(
        self,
        agent: tuple[float, float],
        block: Pose,
        goal: Pose | None = None,
        goal_agent: tuple[float, float] | None = None,
    ) -> Image:
        """The scene as uint8 [resolution, resolution, 3], a new array each call.

        Args:
            agent: agent position [px of the 512 arena].
            block: block pose (x, y, angle).
            goal: pose at which to draw the green goal T beneath everything, or None for no goal.
            goal_agent: where to draw a pale ring for the agent's goal position, or None.
        """
        image = self._backdrop(goal, goal_agent).copy()
        self._draw_block(image, block, _BLOCK)
        self._draw_agent(image, agent, _AGENT)
        return image

    def _backdrop(self, goal: Pose | None, goal_agent: tuple[float, float] | None) -> Image:
        key = (goal, goal_agent)
        image = self._backdrops.get(key)
        if image is None:
            image = self._empty.copy()
            if goal is not None:
                self._draw_block(image, goal, _GOAL)
            if goal_agent is not None:
                self._draw_agent(image, goal_agent, _GHOST_AGENT)
                self._draw_agent(image, goal_agent, _WHITE, AGENT_RADIUS - 4.0)
            # A goal lasts an episode, so one backdrop per kind of picture is enough to remember.
            if len(self._backdrops) >= 4:
                self._backdrops.clear()
            self._backdrops[key] = image
        return image

    def _draw_block(self, image: Image, pose: Pose, colour: NDArray[np.float32]) -> None:
        x, y, angle = pose
        cos, sin = math.cos(angle), math.sin(angle)
        # Bounding box: the bar's from its half-length and thickness, the stem's from its far end.
        reach = 60.0 * abs(cos), 60.0 * abs(sin)
        stem_x, stem_y = -120.0 * sin, 120.0 * cos
        thick_x, thick_y = 30.0 * abs(sin), 30.0 * abs(cos)
        window = self._window(
            x + min(-reach[0] - thick_x, stem_x - 15.0),
            y + min(-reach[1] - thick_y, stem_y - 15.0),
            x + max(reach[0] + thick_x, stem_x + 15.0),
            y + max(reach[1] + thick_y, stem_y + 15.0),
        )
        if window is None:
            return
        rows, columns = window
        dx, dy = self._centres[columns] - x, self._centres[rows, None] - y
        u = np.abs(cos * dx + sin * dy)
        v = cos * dy - sin * dx
        # min over the rectangles of max over the axes; the stem reaches up to the bar's top to leave no seam.
        bar = np.maximum(u - 60.0, np.abs(v - 15.0) - 15.0)
        u -= 15.0
        v -= 60.0
        np.abs(v, out=v)
        v -= 60.0
        np.maximum(u, v, out=u)
        self._blend(image, window, np.minimum(bar, u, out=bar), colour)

    def _draw_agent(
        self,
        image: Image,
        position: tuple[float, float],
        colour: NDArray[np.float32],
        radius: float = AGENT_RADIUS,
    ) -> None:
        x, y = position
        window = self._window(x - radius, y - radius, x + radius, y + radius)
        if window is None:
            return
        rows, columns = window
        dx, dy = self._centres[columns] - x, self._centres[rows, None] - y
        self._blend(image, window, np.sqrt(dx * dx + dy * dy) - radius, colour)

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> _Window | None:
        """Pixels that a shape with this bounding box can touch, or None if it lies off the picture."""
        scale, size = self._scale, self.resolution
        left, right = max(math.floor(x0 * scale - 1), 0), min(math.ceil(x1 * scale + 1), size)
        top, bottom = max(math.floor(y0 * scale - 1), 0), min(math.ceil(y1 * scale + 1), size)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)

    def _blend(self, image: Image, window: _Window, distance: NDArray[np.float32], colour: NDArray[np.float32]) -> None:
        """Paint `colour` over the window wherever the signed distance [arena px] says so; eats `distance`."""
        distance *= -self._scale
        distance += 0.5
        _mix(image, window, distance.clip(0.0, 1.0, out=distance), colour)

    def _share_of_square(self, low: float, high: float) -> NDArray[np.float32]:
        """Every pixel's share [resolution, resolution] of the square low..high [arena px] on both axes."""
        edges = np.clip(np.arange(self.resolution + 1) / self._scale, low, high)
        share = (np.diff(edges) * self._scale).astype(np.float32)
        return share[:, None] * share


def _mix(image: Image, window: _Window, alpha: NDArray[np.float32], colour: NDArray[np.float32]) -> None:
    """Paint `colour` over the window's pixels by their shares `alpha` in [0, 1]."""
    below = image[window]
    mixed = colour - below
    mixed *= alpha[..., None]
    mixed += below
    mixed += 0.5  # the cast below truncates
    image[window] = mixed


def _colour(rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.array(rgb, dtype=np.float32)


_WHITE, _WALL = _colour(WHITE), _colour(WALL_COLOUR)
_AGENT, _BLOCK = _colour(AGENT_COLOUR), _colour(BLOCK_COLOUR)
_GOAL, _GHOST_AGENT = _colour(GOAL_COLOUR), _colour(GHOST_AGENT_COLOUR)
_EVERYWHERE = (slice(None), slice(None))
