"""A scripted policy that makes data for the ball: it heads for random places and knows nothing of the barrier.

It walks straight towards a place, with errors of direction and speed that change smoothly, and rests now and then. It
gives up for another place when it has arrived, when it has come no nearer for several steps, or after a random time. So
its data show free motion, sliding along barrier and borders, being stuck there, and rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from grasp_envs.validation import check_seed

Point = tuple[float, float]

# Steps towards one place, steps without coming nearer, and steps of a rest: drawn from [low, high).
ATTEMPT, PATIENCE, REST = (10, 40), (4, 10), (2, 7)
REST_CHANCE = 0.03
# Progress below this share of a full step is none.
LEAST_PROGRESS = 0.1
# How much of an error is left a step later, and its standard deviations: of direction [rad], of speed [full steps].
MEMORY = 0.8
TURN, SPEED, SPEED_ERROR = 0.5, 0.9, 0.35


class BallNavPolicy:
    """Wanders between random places.

    Args:
        where: tells where the ball is.
        draw_place: draws a place to go to.
        step: how far a full action moves the ball along either axis.
        seed: seed of the policy's own random numbers.
    """

    def __init__(
        self,
        where: Callable[[], Point],
        draw_place: Callable[[np.random.Generator], Point],
        step: float,
        seed: int | None,
    ) -> None:
        self._where = where
        self._draw_place = draw_place
        self._step = step
        self._rng = np.random.default_rng(check_seed(seed))
        self._errors = self._rng.normal(size=2)
        self._rest_left = 0
        self._choose_place()

    def act(self) -> NDArray[np.float32]:
        """The next action, two numbers in [-1, 1]."""
        rng = self._rng
        self._errors = MEMORY * self._errors + math.sqrt(1.0 - MEMORY**2) * rng.normal(size=2)
        if self._rest_left == 0 and rng.random() < REST_CHANCE:
            self._rest_left = int(rng.integers(*REST))
        if self._rest_left > 0:
            self._rest_left -= 1
            return np.zeros(2, np.float32)

        x, y = self._where()
        if self._is_over(math.dist((x, y), self._place)):
            self._choose_place()
        turn, faster = self._errors.tolist()
        direction = math.atan2(self._place[1] - y, self._place[0] - x) + TURN * turn
        speed = max(SPEED + SPEED_ERROR * faster, 0.0)
        speed = min(speed, math.dist((x, y), self._place) / self._step)
        action = np.array([speed * math.cos(direction), speed * math.sin(direction)], np.float32)
        return action.clip(-1.0, 1.0)

    def _choose_place(self) -> None:
        rng = self._rng
        self._place = self._draw_place(rng)
        self._steps_left = int(rng.integers(*ATTEMPT))
        self._patience = int(rng.integers(*PATIENCE))
        self._nearest = math.inf
        self._without_progress = 0

    def _is_over(self, distance: float) -> bool:
        """Whether it is time for another place, at this distance from the present one."""
        self._steps_left -= 1
        if distance < self._nearest - LEAST_PROGRESS * self._step:
            self._nearest, self._without_progress = distance, 0
        else:
            self._without_progress += 1
        arrived = distance < 0.5 * self._step
        return arrived or self._steps_left < 0 or self._without_progress >= self._patience
