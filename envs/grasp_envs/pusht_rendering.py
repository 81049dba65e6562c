"""Push-T pictures: a walled arena, the T, its goal and the agent. Colours are gym-pusht's."""

from __future__ import annotations

import math

import numpy as np

from grasp_envs.canvas import EVERYWHERE, Canvas, Colour, Image, colour_of, mix
from grasp_envs.pusht_simulation import AGENT_RADIUS, ARENA, Pose

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
        self._canvas = Canvas(resolution, ARENA)
        self._empty = self._canvas.blank(colour_of(WHITE))
        # The walls are thinner than a pixel, too thin for a distance to tell their share of it: that of the
        # square 3..508 less that of the square 7..504 is exact.
        outer, inner = self._canvas.share(3.0, 3.0, 508.0, 508.0), self._canvas.share(7.0, 7.0, 504.0, 504.0)
        mix(self._empty, EVERYWHERE, outer - inner, _WALL)
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
        self._canvas.disk(image, *agent, AGENT_RADIUS, _AGENT)
        return image

    def _backdrop(self, goal: Pose | None, goal_agent: tuple[float, float] | None) -> Image:
        key = (goal, goal_agent)
        image = self._backdrops.get(key)
        if image is None:
            image = self._empty.copy()
            if goal is not None:
                self._draw_block(image, goal, _GOAL)
            if goal_agent is not None:
                self._canvas.disk(image, *goal_agent, AGENT_RADIUS, _GHOST_AGENT)
                self._canvas.disk(image, *goal_agent, AGENT_RADIUS - 4.0, _WHITE)
            # A goal lasts an episode, so one backdrop per kind of picture is enough to remember.
            if len(self._backdrops) >= 4:
                self._backdrops.clear()
            self._backdrops[key] = image
        return image

    def _draw_block(self, image: Image, pose: Pose, colour: Colour) -> None:
        x, y, angle = pose
        centres = self._canvas.centres
        cos, sin = math.cos(angle), math.sin(angle)
        # Bounding box: the bar's from its half-length and thickness, the stem's from its far end.
        reach = 60.0 * abs(cos), 60.0 * abs(sin)
        stem_x, stem_y = -120.0 * sin, 120.0 * cos
        thick_x, thick_y = 30.0 * abs(sin), 30.0 * abs(cos)
        window = self._canvas.window(
            x + min(-reach[0] - thick_x, stem_x - 15.0),
            y + min(-reach[1] - thick_y, stem_y - 15.0),
            x + max(reach[0] + thick_x, stem_x + 15.0),
            y + max(reach[1] + thick_y, stem_y + 15.0),
        )
        if window is None:
            return
        rows, columns = window
        dx, dy = centres[columns] - x, centres[rows, None] - y
        u = np.abs(cos * dx + sin * dy)
        v = cos * dy - sin * dx
        # min over the rectangles of max over the axes; the stem reaches up to the bar's top to leave no seam.
        bar = np.maximum(u - 60.0, np.abs(v - 15.0) - 15.0)
        u -= 15.0
        v -= 60.0
        np.abs(v, out=v)
        v -= 60.0
        np.maximum(u, v, out=u)
        self._canvas.blend(image, window, np.minimum(bar, u, out=bar), colour)


_WHITE, _WALL = colour_of(WHITE), colour_of(WALL_COLOUR)
_AGENT, _BLOCK = colour_of(AGENT_COLOUR), colour_of(BLOCK_COLOUR)
_GOAL, _GHOST_AGENT = colour_of(GOAL_COLOUR), colour_of(GHOST_AGENT_COLOUR)
