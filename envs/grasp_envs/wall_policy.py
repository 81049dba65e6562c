"""A scripted data policy for the dot of the two rooms: it wanders, bumps into walls, slides and rests."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from grasp_envs.validation import check_seed

Point = tuple[float, float]

# The speeds of which each walk has one, in actions. The fastest reaches the corners of the box of actions.
SLOWEST, FASTEST = 0.2, 1.4
# Smooth errors of direction and speed: each step keeps this share of the last one's and adds fresh noise. ERROR is
# the standard deviation in the long run, of either component of the action.
MEMORY = 0.85
ERROR = 0.4
# The shortest and the longest walk, patience and pause [steps], each drawn uniformly.
WALK = (10, 80)
PATIENCE = (3, 8)
PAUSE = (2, 10)
PAUSE_CHANCE = 0.02  # per step
ARRIVED = 1.0  # px
# Progress below it counts as none [px].
PROGRESS = 0.1


class WallPolicy:
    """Heads for places drawn at random, straight and with errors, and knows of no walls.

    It heads for another place once it has arrived, has come no nearer for several steps, or has tried for long
    enough. Now and then it rests for some steps.

    Args:
        where: tells where the dot is [px].
        draw_place: draws a place in the free space [px].
        stride: px that the dot moves by an action of 1.
        seed: seed of the policy's own random numbers.
    """

    def __init__(
        self,
        where: Callable[[], Point],
        draw_place: Callable[[np.random.Generator], Point],
        stride: float,
        seed: int | None,
    ) -> None:
        self._where = where
        self._draw_place = draw_place
        self._stride = stride
        self._rng = np.random.default_rng(check_seed(seed))
        self._error = ERROR * self._rng.normal(size=2)
        self._rest_left = 0
        self._choose_place()

    def act(self) -> NDArray[np.float32]:
        """The next action, two numbers within [-1, 1]."""
        self._error = MEMORY * self._error + math.sqrt(1.0 - MEMORY**2) * ERROR * self._rng.normal(size=2)
        if self._rests():
            return np.zeros(2, dtype=np.float32)
        x, y = self._where()
        if self._walk_is_over(math.dist((x, y), self._place)):
            self._choose_place()
        dx, dy = self._place[0] - x, self._place[1] - y
        # No further than the place itself, and an action of 1 moves the dot by a stride.
        scale = min(self._speed / max(math.hypot(dx, dy), 1e-9), 1.0 / self._stride)
        action = np.array([scale * dx, scale * dy]) + self._error
        return action.clip(-1.0, 1.0).astype(np.float32)

    def _rests(self) -> bool:
        if self._rest_left == 0 and self._rng.random() < PAUSE_CHANCE:
            self._rest_left = self._between(PAUSE)
        resting = self._rest_left > 0
        self._rest_left -= resting
        return resting

    def _choose_place(self) -> None:
        self._place = self._draw_place(self._rng)
        self._speed = float(self._rng.uniform(SLOWEST, FASTEST))
        self._walk_left = self._between(WALK)
        self._patience = self._patience_left = self._between(PATIENCE)
        self._nearest = math.inf

    def _walk_is_over(self, distance: float) -> bool:
        """Count one more step of the walk, `distance` [px] from its place."""
        self._walk_left -= 1
        if distance < self._nearest - PROGRESS:
            self._nearest = distance
            self._patience_left = self._patience
        else:
            self._patience_left -= 1
        return distance < ARRIVED or self._patience_left <= 0 or self._walk_left <= 0

    def _between(self, limits: tuple[int, int]) -> int:
        return int(self._rng.integers(limits[0], limits[1], endpoint=True))
