"""A scripted data policy for the point maze: heads for random places and bumps into whatever is in the way.

It knows where the ball is, how fast it moves and where it wants to go, but nothing of walls or routes. So its data
show free motion, sliding along walls, being stuck at them, and rests. It repeats:

1. choose: a random place in the free space, a speed, and for how long to try at most; now and then a pause first;
2. go: push towards that place, with errors of direction and speed that change smoothly;
3. give up and choose again: on arrival, when for several steps the place gets no nearer, or when the time is over.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from grasp_envs.point_maze_simulation import DT, FORCE, MASS, MAX_SPEED, Maze
from grasp_envs.validation import check_seed

# Nearer than this to its place [cells] the ball has arrived.
ARRIVAL = 0.15
# Steps without getting nearer, after which the policy gives up.
PATIENCE = 8
# Share of the wanted change of velocity that a step brings about, as far as the force suffices.
FOLLOWING = 0.6
# The errors: how much of them lasts from step to step, and their standard deviations.
PERSISTENCE = 0.9
DIRECTION_ERROR = 0.5  # radians
SPEED_ERROR = 0.3  # share of the speed
PAUSE_PROBABILITY = 0.15


class Ball(Protocol):
    """What the policy reads of a world: its maze, and place [cells] and velocity [cells/s] of its ball."""

    @property
    def maze(self) -> Maze: ...

    @property
    def x(self) -> float: ...

    @property
    def y(self) -> float: ...

    @property
    def vx(self) -> float: ...

    @property
    def vy(self) -> float: ...


class PointMazePolicy:
    """Data policy bound to one simulation; `act` returns actions of the environment it was made for.

    Args:
        simulation: the world to read.
        frame_skip: substeps of 0.01 s that the environment makes of a step.
        seed: seed of the policy's own random numbers.
    """

    def __init__(self, simulation: Ball, frame_skip: int, seed: int | None) -> None:
        self._simulation = simulation
        self._step_time = DT * frame_skip
        self._rng = np.random.default_rng(check_seed(seed))
        self._turn = 0.0
        self._hurry = 0.0
        self._choose()

    def act(self) -> NDArray[np.float32]:
        """The next action, float32 [2], each component in [-1, 1]."""
        velocity_x, velocity_y = self._wanted_velocity()
        gain = FOLLOWING * MASS / (FORCE * self._step_time)
        push_x = gain * (velocity_x - self._simulation.vx)
        push_y = gain * (velocity_y - self._simulation.vy)
        return np.array([min(max(push_x, -1.0), 1.0), min(max(push_y, -1.0), 1.0)], dtype=np.float32)

    def _choose(self) -> None:
        """Choose a place and how to go there."""
        rng, maze = self._rng, self._simulation.maze
        column, row = maze.cells[int(rng.integers(len(maze.cells)))]
        self._place = column + rng.random(), row + rng.random()
        self._speed = rng.uniform(0.1, 1.0) * MAX_SPEED
        self._steps_left = int(rng.integers(10, 60))
        self._pause_left = int(rng.integers(5, 20)) if rng.random() < PAUSE_PROBABILITY else 0
        self._nearest = math.inf
        self._steps_no_nearer = 0

    def _wanted_velocity(self) -> tuple[float, float]:
        """The velocity [cells/s] to go at now; a new choice if need be."""
        if self._pause_left == 0 and self._is_over():
            self._choose()
        if self._pause_left > 0:
            self._pause_left -= 1
            return 0.0, 0.0
        fresh = math.sqrt(1.0 - PERSISTENCE**2)
        self._turn = PERSISTENCE * self._turn + fresh * DIRECTION_ERROR * self._rng.normal()
        self._hurry = PERSISTENCE * self._hurry + fresh * SPEED_ERROR * self._rng.normal()
        dx, dy, distance = self._way()
        # Slower near the place, or the ball would shoot past it.
        speed = min(self._speed * (1.0 + self._hurry), distance / (3.0 * self._step_time))
        direction = math.atan2(dy, dx) + self._turn
        return speed * math.cos(direction), speed * math.sin(direction)

    def _is_over(self) -> bool:
        """Whether to give the place up; counts the steps, and those that brought the ball no nearer."""
        *_, distance = self._way()
        self._steps_left -= 1
        self._steps_no_nearer += 1
        if distance < self._nearest - 0.01:
            self._nearest, self._steps_no_nearer = distance, 0
        return distance < ARRIVAL or self._steps_left <= 0 or self._steps_no_nearer >= PATIENCE

    def _way(self) -> tuple[float, float, float]:
        """From the ball to its place [cells]: along x, along y, and straight."""
        dx, dy = self._place[0] - self._simulation.x, self._place[1] - self._simulation.y
        return dx, dy, math.hypot(dx, dy)
