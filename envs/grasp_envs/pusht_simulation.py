"""Push-T physics: a pymunk space, the PD-controlled agent and the T block.

Geometry, masses and control follow gym-pusht 0.1.8 (the diffusion-policy task) so closely that trajectories
agree to 1e-9 px: a kinematic agent is driven towards a target by

    a = 100 (target - p) - 20 v,   v <- v + a dt,   p <- p + v dt,   dt = 0.01, ten substeps per control step,

while the block moves quasi-statically (space damping 0 zeroes its velocity every substep).

Units are pixels of the 512 x 512 arena (y points down), seconds and radians. The block's position is the
centre of the bar's top edge; its angle is unwrapped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pymunk
from numpy.typing import NDArray

Array = NDArray[np.float64]

ARENA = 512.0
AGENT_RADIUS = 15.0
# Inner faces of the four walls (segments of radius 2 on the square 5..506).
WALL_LOW, WALL_HIGH = 7.0, 504.0

# The T in its own frame, as two rectangles (x0, y0, x1, y1): bar and stem.
BAR = (-60.0, 0.0, 60.0, 30.0)
STEM = (-15.0, 30.0, 15.0, 120.0)
BLOCK_AREA = 120.0 * 30.0 + 30.0 * 90.0
BLOCK_CENTRE = 45.0
BLOCK_MASS = 1.0
# The legacy task counts the bar twice (physically 1932); kept, because it is what the recorded world obeys.
BLOCK_MOMENT = 3000.0
# Corners in gym-pusht's keypoint order: bar, then stem.
KEYPOINTS: Array = np.array(
    [(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120)], dtype=np.float64
)

DT = 0.01
SUBSTEPS = 10
STIFFNESS, DAMPING = 100.0, 20.0

Pose = tuple[float, float, float]


def _box_vertices(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    x0, y0, x1, y1 = box
    return [(x0, y1), (x1, y1), (x1, y0), (x0, y0)]


class PushTSimulation:
    """The simulated world: `set_state`, `step` towards a target, read the state and contacts.

    Attributes:
        agent_x, agent_y, agent_vx, agent_vy: agent position [px] and velocity [px/s].
        block_x, block_y, block_angle: block pose [px, px, rad], angle unwrapped.
        agent_block_contacts: contact points when agent and block first touched in the last step, or 0.
        block_wall_contacts: contact points between block and walls at the end of the last step.
    """

    def __init__(self) -> None:
        self.set_state((256.0, 400.0, 256.0, 300.0, 0.0, 0.0, 0.0))

    def set_state(self, state: Any) -> None:
        """Put the world into `state` = agent xy, block xy, block angle, agent velocity xy (7 numbers).

        A fresh space is built every time: the contact solver keeps a cache between steps, and a stale one
        would make the same state move differently.
        """
        values = [float(value) for value in state]
        self.agent_x, self.agent_y, self.block_x, self.block_y, self.block_angle = values[:5]
        self.agent_vx, self.agent_vy = values[5:]
        self.agent_block_contacts = 0
        self.block_wall_contacts = 0

        space = pymunk.Space()
        space.damping = 0.0
        corners = [(5, 506), (5, 5), (506, 5), (506, 506)]
        # Each segment's direction and the order of creation are gym-pusht's: both enter the solver.
        for start, end in ((0, 1), (1, 2), (2, 3), (0, 3)):
            space.add(pymunk.Segment(space.static_body, corners[start], corners[end], 2))

        agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        agent.position = (256, 400)
        agent_shape = pymunk.Circle(agent, AGENT_RADIUS)
        space.add(agent, agent_shape)

        block = pymunk.Body(BLOCK_MASS, BLOCK_MOMENT)
        bar, stem = (pymunk.Poly(block, _box_vertices(box)) for box in (BAR, STEM))
        block.center_of_gravity = (0.0, BLOCK_CENTRE)
        space.add(block, bar, stem)

        agent.position = (self.agent_x, self.agent_y)
        agent.velocity = (self.agent_vx, self.agent_vy)
        # Angle before position: turning rotates about the centre of gravity, which moves the origin.
        block.angle = self.block_angle
        block.position = (self.block_x, self.block_y)
        # The space indexes shapes where they were added; without this a first step could miss a contact.
        space.reindex_shapes_for_body(agent)
        space.reindex_shapes_for_body(block)

        self._space, self._agent, self._block, self._agent_shape = space, agent, block, agent_shape

    def get_state(self) -> Array:
        """The state as float64 [7]: agent xy, block xy, block angle (unwrapped), agent velocity xy."""
        return np.array(
            [
                self.agent_x,
                self.agent_y,
                self.block_x,
                self.block_y,
                self.block_angle,
                self.agent_vx,
                self.agent_vy,
            ]
        )

    @property
    def block_pose(self) -> Pose:
        """The block's (x, y, angle)."""
        return self.block_x, self.block_y, self.block_angle

    def step(self, target_x: float, target_y: float) -> None:
        """Advance one control step (0.1 s), the agent driven towards the absolute target [px]."""
        agent, space_step = self._agent, self._space.step
        count = self._block.each_arbiter
        x, y, vx, vy = self.agent_x, self.agent_y, self.agent_vx, self.agent_vy
        agent_contacts = 0
        for _ in range(SUBSTEPS):
            vx += (STIFFNESS * (target_x - x) + DAMPING * (0.0 - vx)) * DT
            vy += (STIFFNESS * (target_y - y) + DAMPING * (0.0 - vy)) * DT
            agent.velocity = (vx, vy)
            space_step(DT)
            # What the space just did to the agent, without asking it back.
            x += vx * DT
            y += vy * DT
            # A push loses touch now and then, so the last substep alone would miss some; looking into a
            # contact is dear, so only the first counts.
            if not agent_contacts:
                self._contacts = [0, 0]
                count(self._count_contacts)
                agent_contacts = self._contacts[0]
        self.agent_x, self.agent_y = agent.position
        self.agent_vx, self.agent_vy = vx, vy
        self.block_x, self.block_y = self._block.position
        self.block_angle = self._block.angle
        self._contacts = [0, 0]
        count(self._count_contacts)
        self.agent_block_contacts, self.block_wall_contacts = agent_contacts, self._contacts[1]

    def _count_contacts(self, arbiter: pymunk.Arbiter) -> None:
        points = len(arbiter.contact_point_set.points)
        self._contacts[0 if self._agent_shape in arbiter.shapes else 1] += points

    def __getstate__(self) -> dict[str, Any]:
        # A pickled Space whose body has an off-centre centre of gravity comes back with the block displaced,
        # so only the numbers travel.
        return {
            "state": self.get_state(),
            "contacts": (self.agent_block_contacts, self.block_wall_contacts),
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.set_state(saved["state"])
        self.agent_block_contacts, self.block_wall_contacts = saved["contacts"]


def keypoints(pose: Pose) -> Array:
    """The T's eight corners [8, 2] in gym-pusht's order (see `PushTEnv`) for a block pose."""
    x, y, angle = pose
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Array = KEYPOINTS @ np.array([[cos, sin], [-sin, cos]])
    turned += (x, y)
    return turned


def block_distance(pose: Pose, x: float, y: float) -> float:
    """Signed distance [px] from a point to the T at `pose` (negative inside)."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    dx, dy = x - pose[0], y - pose[1]
    return local_distance(cos * dx + sin * dy, cos * dy - sin * dx)


def local_distance(u: float, v: float) -> float:
    """`block_distance` for a point given in the block's own frame."""
    side = abs(u)
    # The stem's rectangle is drawn up to the bar's top so that their seam is not taken for an edge.
    bar_u, bar_v = side - 60.0, abs(v - 15.0) - 15.0
    stem_u, stem_v = side - 15.0, abs(v - 60.0) - 60.0
    bar = math.hypot(bar_u, bar_v) if bar_u > 0 and bar_v > 0 else max(bar_u, bar_v)
    stem = math.hypot(stem_u, stem_v) if stem_u > 0 and stem_v > 0 else max(stem_u, stem_v)
    return min(bar, stem)


def is_legal_start(agent_x: float, agent_y: float, pose: Pose) -> bool:
    """Whether agent and block do not overlap and the block lies inside the walls."""
    if block_distance(pose, agent_x, agent_y) <= AGENT_RADIUS:
        return False
    x, y, angle = pose
    cos, sin = math.cos(angle), math.sin(angle)
    for u, v in ((60.0, 0.0), (60.0, 30.0), (-60.0, 30.0), (-60.0, 0.0), (15.0, 120.0), (-15.0, 120.0)):
        corner_x, corner_y = x + cos * u - sin * v, y + sin * u + cos * v
        if not (WALL_LOW < corner_x < WALL_HIGH and WALL_LOW < corner_y < WALL_HIGH):
            return False
    return True


def random_start(rng: np.random.Generator) -> Array:
    """A legal random state [7] at rest: gym-pusht's distribution without its overlapping starts."""
    while True:
        agent_x, agent_y = (float(value) for value in rng.integers(50, 450, size=2))
        block_x, block_y = (float(value) for value in rng.integers(100, 400, size=2))
        angle = float(rng.uniform(-math.pi, math.pi))
        if is_legal_start(agent_x, agent_y, (block_x, block_y, angle)):
            return np.array([agent_x, agent_y, block_x, block_y, angle, 0.0, 0.0])


def coverage(pose: Pose, goal: Pose) -> float:
    """Share of the goal T covered by the block, area(T and goal) / area(goal), in [0, 1].

    Both are two rectangles: in the goal's frame each of the block's is clipped against each of the goal's,
    which are axis-aligned there (Sutherland-Hodgman), and the pieces' areas add up.
    """
    cos_goal, sin_goal = math.cos(goal[2]), math.sin(goal[2])
    dx, dy = pose[0] - goal[0], pose[1] - goal[1]
    x, y = cos_goal * dx + sin_goal * dy, cos_goal * dy - sin_goal * dx
    turn = pose[2] - goal[2]
    cos, sin = math.cos(turn), math.sin(turn)
    # Twice the largest distance of a corner from the T's centre: beyond it the shapes cannot meet.
    if math.hypot(x - sin * BLOCK_CENTRE, y + (cos - 1.0) * BLOCK_CENTRE) > 153.0:
        return 0.0
    area = 0.0
    for box in (BAR, STEM):
        corners = [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in _box_vertices(box)]
        for window in (BAR, STEM):
            area += _clipped_area(corners, window)
    return min(area / BLOCK_AREA, 1.0)


def _clipped_area(polygon: list[tuple[float, float]], window: tuple[float, float, float, float]) -> float:
    """Area of a convex polygon inside an axis-aligned rectangle."""
    for axis, bound, sign in (
        (0, window[0], 1.0),
        (1, window[1], 1.0),
        (0, window[2], -1.0),
        (1, window[3], -1.0),
    ):
        clipped: list[tuple[float, float]] = []
        previous = polygon[-1]
        previous_depth = sign * (previous[axis] - bound)
        for point in polygon:
            depth = sign * (point[axis] - bound)
            if (depth >= 0.0) != (previous_depth >= 0.0):
                share = previous_depth / (previous_depth - depth)
                clipped.append(
                    (
                        previous[0] + share * (point[0] - previous[0]),
                        previous[1] + share * (point[1] - previous[1]),
                    )
                )
            if depth >= 0.0:
                clipped.append(point)
            previous, previous_depth = point, depth
        if not clipped:
            return 0.0
        polygon = clipped
    twice = 0.0
    x0, y0 = polygon[-1]
    for x1, y1 in polygon:
        twice += x0 * y1 - x1 * y0
        x0, y0 = x1, y1
    return abs(twice) / 2.0
