"""The point maze: drive a ball by forces through a maze to where a goal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from grasp_envs.canvas import EVERYWHERE, Canvas, Image, colour_of, mix
from grasp_envs.goal_rewards import GoalRewards
from grasp_envs.point_maze_policy import PointMazePolicy
from grasp_envs.point_maze_simulation import DT, MAX_SPEED, Array, Maze, PointMazeSimulation
from grasp_envs.point_maze_states import (
    MOST_SUBSTEPS,
    OBS_TYPES,
    REWARD_TYPES,
    SUCCESS_DISTANCE,
    at_rest,
    check_options,
    check_state,
    goal_distance,
    info_of,
)
from grasp_envs.validation import as_unit_action, check_choice, check_integer, check_pixels, check_seed

GOALS = ("far", "any")
UNIT = "cells/s"
# "far" asks for at least this share of the maze's longest shortest path.
FAR_SHARE = 0.75
# Start and goal lie off the middle of their cells by at most this much along either axis [cells].
PLACE_NOISE = 0.25

WALL_COLOUR = (128, 128, 128)
FLOOR_COLOUR = (255, 255, 255)
BALL_COLOUR = (220, 30, 30)
GOAL_COLOUR = (250, 190, 190)
# Three times as large as the ball collides: that would be less than a pixel of a small picture of a large maze.
DRAWN_RADIUS = 0.3


class PointMazeEnv(GoalRewards, gym.Env[Any, Any]):
    """A ball that is pushed through a maze, without MuJoCo.

    ## Description

    A ball of radius 0.1 moves between walls. Each action is a force on it. It has mass and hardly any friction, so
    it keeps rolling and must be braked. The task is to bring it to a place in another part of the maze, and to keep
    it there. Walls stand in the way, so the straight direction is often the wrong one.

    This is a light counterpart of gymnasium-robotics' PointMaze. Force, mass, damping, time step, greatest speed and
    named mazes are the same. Motion is integrated as MuJoCo does by default: semi-implicit Euler, with the damping
    taken implicitly. Five things differ:

    - Coordinates count cells from the map's top left corner: x is the column and points right, y is the row and
      points down. The cell in column c and row r covers [c, c + 1] x [r, r + 1]. gymnasium-robotics centres its
      coordinates in the maze.
    - Walls stop the ball at once, without bouncing and without friction. MuJoCo's walls are a little soft.
    - The velocity is held within +-5 cells/s per axis after each 0.01 s; there, before each step.
    - A step takes 0.05 s, as in DINO-WM; there, 0.01 s.
    - Start and goal are drawn as described below.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the force along x and y, in units of 100. It lasts for the whole step, `frame_skip` x
    0.01 s. The ball's mass is 4.189, its damping 1, so a full push speeds it up by 1.19 cells/s in 0.05 s. Values
    beyond the box are clipped to it.

    ## Observation Space

    Always a `Dict`, by `obs_type` (positions in cells, velocities in cells/s):

    - `"state"`: `observation` `Box(4)` = x, y, velocity x, velocity y; `achieved_goal` and `desired_goal` `Box(2)` =
      x, y. `compute_reward` is there, so hindsight experience replay runs on it.
    - `"pixels"`: `pixels` and `goal`, both `Box(0, 255, (resolution, resolution, 3), uint8)`: the ball where it is
      and where it shall be. Neither shows anything of the other.

    Pictures show the whole maze from above: white floor, grey walls, a red ball. They are square. A maze that is not
    lies in the middle, with wall around it. The ball is drawn with radius 0.3 in every maze, larger than it collides,
    so that it is easily seen. Close to a wall its picture covers some of the wall.

    `info` holds, after every reset and step:

    - `is_success`: whether `distance` is at most 0.45;
    - `distance`: from the ball to its goal, in a straight line (cells);
    - `state`: `get_state()`;
    - `goal_state`: the goal's x, y and its velocity, 0, 0 (for evaluation, never for an agent).

    ## Rewards

    `reward_type="sparse"`: 0 on success, else -1. `"dense"`: exp(-distance) - 1. Success asks for the position only,
    not for rest.

    ## Starting State

    Start and goal are two cells, drawn uniformly from the pairs that `goals` allows. With `"far"`, the shortest path
    between them has at least 3/4 of the length of the longest shortest path in the maze, counted in cells. With
    `"any"`, they are any two different cells. Each place is the middle of its cell plus uniform noise within +-0.25
    along either axis. The ball starts at rest.

    `reset(options={"state": s, "goal": g})` sets exactly what is asked: `s` = x, y, velocity x, velocity y, or x, y
    for a ball at rest; `g` = x, y. The ball must fit in there. For one that is given, the other is drawn from its
    cell's pairs; if it has none, from the cells farthest from it. What is drawn never solves the task at the start.

    ## Episode End

    Never terminates (staying at the goal is part of the task); truncates after `max_steps` steps.

    ## Arguments

    - `maze`: `"umaze"` (5 x 5 cells), `"medium"` (8 x 8), `"large"` (9 x 12), or a map: a sequence of strings of one
      length, `#` for a wall cell and `.` or a space for a free one, with walls all round, and with at least two free
      cells, all of which can be reached from one another; default `"umaze"`.
    - `goals`: `"far"` or `"any"`; default `"far"`.
    - `obs_type`: `"state"` or `"pixels"`; default `"state"`.
    - `resolution`: side of pixel observations in pixels; default 64.
    - `reward_type`: `"sparse"` or `"dense"`; default `"sparse"`.
    - `frame_skip`: how many times 0.01 s a step takes; default 5.
    - `max_steps`: steps of an episode; default 300.
    - `render_mode`: `None` or `"rgb_array"`: the picture, with a pale disk beneath the ball. The task is solved
      while the ball's centre lies on it.
    - `visualization_size`: side of `render()`'s image in pixels; default 512.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        maze: str | Sequence[str] = "umaze",
        goals: str = "far",
        obs_type: str = "state",
        resolution: int = 64,
        reward_type: str = "sparse",
        frame_skip: int = 5,
        max_steps: int = 300,
        render_mode: str | None = None,
        visualization_size: int = 512,
    ) -> None:
        check_choice("goals", goals, GOALS)
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("reward_type", reward_type, REWARD_TYPES)
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.maze = Maze(maze)
        self.goals = goals
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=64)
        self.reward_type = reward_type
        self.frame_skip = check_integer("frame_skip", frame_skip, 1, usual=5, most=MOST_SUBSTEPS)
        self.max_steps = check_integer("max_steps", max_steps, 1, usual=300)
        self.metadata = {**self.metadata, "render_fps": max(round(1.0 / (DT * self.frame_skip)), 1)}
        self.render_mode = render_mode
        self.visualization_size = check_pixels("visualization_size", visualization_size, usual=512)

        self.simulation = PointMazeSimulation(self.maze)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = self._make_observation_space()
        # Fewer cells than this between start and goal are too few.
        self._least_steps = FAR_SHARE * float(self.maze.steps.max()) if goals == "far" else 1.0
        self._pairs = np.argwhere(self.maze.steps >= self._least_steps)
        self._pictures = _MazePictures(self.maze, self.resolution) if obs_type == "pixels" else None
        self._visualizer: _MazePictures | None = None
        self._elapsed = 0
        self._set_goal(self.simulation.get_state()[:2])

    # ------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: unknown options, a seed below 0, or a state or goal of the wrong shape or where the ball does
                not fit in.
        """
        super().reset(seed=check_seed(seed))
        state, goal = check_options(options, self._check_place, UNIT)
        if state is None or goal is None:
            state, goal = self._draw_episode(state, goal)
        self.simulation.set_state(state)
        self._set_goal(goal)
        self._elapsed = 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push the ball for `frame_skip` x 0.01 s.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        self.simulation.step(*as_unit_action(action, self.action_space), self.frame_skip)
        self._elapsed += 1
        info = self._info()
        reward = float(self._compute_reward(info["state"][:2], self._goal, info))
        return self._observe(), reward, False, self._elapsed >= self.max_steps, info

    def render(self) -> Any:
        """The scene with its goal as uint8 [visualization_size, visualization_size, 3]."""
        if self.render_mode is None:
            gym.logger.warn('render() expected a render mode, got None: try gym.make(..., render_mode="rgb_array").')
            return None
        if self._visualizer is None:
            self._visualizer = _MazePictures(self.maze, self.visualization_size)
        return self._visualizer.draw(self.simulation.x, self.simulation.y, self._goal)

    # ------------------------------------------------------------------ beyond gymnasium

    def get_state(self) -> Array:
        """float64 [4]: x, y [cells], velocity x, y [cells/s]."""
        return self.simulation.get_state()

    def set_state(self, state: Any) -> None:
        """Put the ball into `state`, 4 numbers as `get_state` gives them, or 2 for a ball at rest.

        Goal and elapsed time stay.

        Raises:
            ValueError: wrong shape, not finite, too fast, or where the ball does not fit in.
        """
        self.simulation.set_state(check_state(state, self._check_place, UNIT))

    def make_expert(self, seed: int | None = None) -> PointMazePolicy:
        """A data policy for this environment: `policy.act()` reads its simulator and returns an action.

        It wanders between random places and knows nothing of walls; `seed` is the seed of its own random numbers.
        """
        return PointMazePolicy(self.simulation, self.frame_skip, seed)

    # ------------------------------------------------------------------ start and goal

    def _draw_episode(self, state: Array | None, goal: Array | None) -> tuple[Array, Array]:
        """Start [4] and goal [2], of which one may be given."""
        while True:
            if state is not None:
                start, end = state, self._draw_place(self._draw_partner(state))
            elif goal is not None:
                start, end = at_rest(self._draw_place(self._draw_partner(goal))), goal
            else:
                first, second = self._pairs[self.np_random.integers(len(self._pairs))]
                start, end = at_rest(self._draw_place(first)), self._draw_place(second)
            # A given place near its cell's edge can lie close to a neighbouring cell's.
            if goal_distance(start[:2], end) > SUCCESS_DISTANCE:
                return start, end

    def _draw_partner(self, place: Array) -> int:
        """The index of a cell that makes a pair with the one that `place` lies in."""
        steps = self.maze.steps[self.maze.cells.index((int(place[0]), int(place[1])))]
        return int(self.np_random.choice(np.flatnonzero(steps >= min(self._least_steps, float(steps.max())))))

    def _draw_place(self, index: int) -> Array:
        """A place [2] near the middle of a cell."""
        return np.array(self.maze.cells[index]) + 0.5 + self.np_random.uniform(-PLACE_NOISE, PLACE_NOISE, 2)

    def _set_goal(self, goal: Array) -> None:
        self._goal = goal
        self._goal_image = None if self._pictures is None else self._pictures.draw(float(goal[0]), float(goal[1]))

    # ------------------------------------------------------------------ checks of input

    def _check_place(self, name: str, values: Array) -> Array:
        x, y = float(values[0]), float(values[1])
        if not self.maze.is_free(x, y):
            column, row = self.maze.cells[0]
            raise ValueError(
                f"expected {name} where the ball, of radius 0.1, fits between the walls, got {[x, y]}, "
                f"try the middle of a free cell such as {[column + 0.5, row + 0.5]}."
            )
        return values

    # ------------------------------------------------------------------ observations

    def _make_observation_space(self) -> spaces.Dict:
        if self.obs_type == "pixels":
            image = spaces.Box(0, 255, (self.resolution, self.resolution, 3), np.uint8)
            return spaces.Dict({"pixels": image, "goal": image})
        highest = np.array([self.maze.width, self.maze.height, MAX_SPEED, MAX_SPEED])
        lowest = np.array([0.0, 0.0, -MAX_SPEED, -MAX_SPEED])
        place = spaces.Box(lowest[:2], highest[:2], dtype=np.float64)
        observation = spaces.Box(lowest, highest, dtype=np.float64)
        return spaces.Dict({"observation": observation, "achieved_goal": place, "desired_goal": place})

    def _observe(self) -> dict[str, Any]:
        simulation = self.simulation
        if self._pictures is not None:
            assert self._goal_image is not None
            return {"pixels": self._pictures.draw(simulation.x, simulation.y), "goal": self._goal_image.copy()}
        state = simulation.get_state()
        return {"observation": state, "achieved_goal": state[:2].copy(), "desired_goal": self._goal.copy()}

    def _info(self) -> dict[str, Any]:
        return info_of(self.simulation.get_state(), self._goal)

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        distance = goal_distance(achieved, desired)
        if self.reward_type == "dense":
            return np.exp(-distance) - 1.0
        return (distance <= SUCCESS_DISTANCE) - 1.0


class _MazePictures:
    """Draws a maze and its ball on square pictures of `resolution` pixels a side."""

    def __init__(self, maze: Maze, resolution: int) -> None:
        size = max(maze.width, maze.height)
        self._canvas = Canvas(resolution, size)
        # From the map's corner to the picture's.
        self._left, self._top = (size - maze.width) / 2, (size - maze.height) / 2
        # Added up: one by one, cells would leave a seam in the pixels that they share.
        floor = np.zeros((resolution, resolution), dtype=np.float32)
        for column, row in maze.cells:
            x, y = column + self._left, row + self._top
            floor += self._canvas.share(x, y, x + 1, y + 1)
        self._walls = (1.0 - floor).clip(0.0, 1.0)
        self._empty = self._background()

    def draw(self, x: float, y: float, goal: Array | None = None) -> Image:
        """The ball at (x, y) [cells], above a pale disk that marks the goal, if one is given; a new array."""
        image = self._empty.copy() if goal is None else self._background(goal)
        self._canvas.disk(image, x + self._left, y + self._top, DRAWN_RADIUS, _BALL)
        return image

    def _background(self, goal: Array | None = None) -> Image:
        image = self._canvas.blank(_FLOOR)
        if goal is not None:
            goal_x, goal_y = float(goal[0]) + self._left, float(goal[1]) + self._top
            self._canvas.disk(image, goal_x, goal_y, SUCCESS_DISTANCE, _GOAL)
        mix(image, EVERYWHERE, self._walls, _WALL)
        return image


_WALL, _FLOOR = colour_of(WALL_COLOUR), colour_of(FLOOR_COLOUR)
_BALL, _GOAL = colour_of(BALL_COLOUR), colour_of(GOAL_COLOUR)
