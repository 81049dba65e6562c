"""A ball, a barrier in its way, and a goal behind it: the smallest task on which a greedy planner gets stuck."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_envs.ball_nav_policy import BallNavPolicy, Point
from grasp_envs.canvas import Canvas, Image, colour_of
from grasp_envs.goal_rewards import GoalRewards
from grasp_envs.validation import (
    Array,
    as_numbers,
    as_unit_action,
    check_choice,
    check_integer,
    check_pixels,
    check_seed,
    options_of,
)

OBS_TYPES = ("state", "pixels")
REWARD_TYPES = ("sparse", "dense")
# The world is the square [-WORLD, WORLD] x [-WORLD, WORLD], x to the right and y up; the barrier lies about its middle.
WORLD = 1.0
BARRIER_HALF_WIDTH = 0.6
BARRIER_HALF_HEIGHT = 0.05
# How far a full action moves the ball along either axis.
STEP = 0.1
TOLERANCE = 0.1
# Starts are drawn from |x| <= SIDE and -FAR <= y <= -NEAR, goals from the mirror image above the barrier.
SIDE, NEAR, FAR = 0.4, 0.3, 0.9
# Of the pictures only: the ball collides as a point.
BALL_RADIUS = 0.06

WHITE = (255, 255, 255)
BARRIER_COLOUR = (119, 136, 153)
BALL_COLOUR = (65, 105, 225)
GOAL_COLOUR = (160, 190, 245)


class BallNavEnv(GoalRewards, gym.Env[Any, Any]):
    """Bring a ball to a goal behind a barrier.

    ## Description

    A reconstruction of the ball-navigation toy of the GRASP paper (arXiv 2602.00475). The paper shows with it how the
    states of an unfinished plan cross a barrier that the ball cannot cross, and how noise on these states gets a plan
    out of a trap. It does not publish the dynamics. So every number and every rule here is our own choice, and results
    are not comparable with the paper's.

    The world is the square [-1, 1] x [-1, 1], x to the right and y up. Lengths are in units of this world. A barrier
    covers [-0.6, 0.6] x [-0.05, 0.05]. A step moves the ball by 0.1 x action. Where this motion meets the barrier, the
    ball slides: it stops at the face that it meets, and keeps the rest of its motion along that face, also past the
    face's end. The ball collides as a point; its disk in the pictures has a radius of 0.06. The borders of the world
    stop it, each in its own direction. The ball has no speed: it rests when the action is zero.

    The goal is straight behind the barrier. Who only ever comes closer to it ends up beneath the barrier, stuck.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the motion along x and y, in units of 0.1. Values beyond the box are clipped to it.

    ## Observation Space

    Always a `Dict`, by `obs_type`:

    - `"state"`: `observation`, `achieved_goal` and `desired_goal`, each `Box(-1, 1, (2,), float64)`: x and y of the
      ball, the same again, and x and y of the goal. `compute_reward` is there, so hindsight experience replay runs on
      it.
    - `"pixels"`: `pixels` and `goal`, both `Box(0, 255, (resolution, resolution, 3), uint8)`: the ball where it is and
      where it shall be, each beside the barrier. Neither shows anything of the other. In pictures y is up as well: the
      top row is y = 1.

    `info` holds, after every reset and step:

    - `is_success`: whether the distance to the goal is below 0.1;
    - `distance`: from ball to goal, in units of the world;
    - `state`: `get_state()`;
    - `goal_state`: x and y of the goal (for evaluation, never for an agent).

    ## Rewards

    `reward_type="sparse"`: 0 while the distance is below 0.1, else -1. `"dense"`: -distance.

    ## Starting State

    Ball uniform in [-0.4, 0.4] x [-0.9, -0.3], goal uniform in [-0.4, 0.4] x [0.3, 0.9]: the straight line between the
    two always meets the barrier. `reset(options={"state": s, "goal": g})` sets exactly what is asked, each as x and y
    of a place in the world and not inside the barrier. What is not asked for is drawn, and drawn again while the
    episode would begin solved.

    ## Episode End

    Never terminates (staying at the goal is part of the task); truncates after `max_steps` steps.

    ## Arguments

    - `obs_type`: `"state"` or `"pixels"`; default `"state"`.
    - `resolution`: side of pixel observations in pixels; default 64.
    - `reward_type`: `"sparse"` or `"dense"`; default `"sparse"`.
    - `max_steps`: steps in an episode, at least 1; default 60. The longest detour takes about 20.
    - `render_mode`: `None` or `"rgb_array"`.
    - `visualization_size`: side of `render()`'s image in pixels; default 512. It shows the places that count as
      the goal as a pale disk.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "state",
        resolution: int = 64,
        reward_type: str = "sparse",
        max_steps: int = 60,
        render_mode: str | None = None,
        visualization_size: int = 512,
    ) -> None:
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("reward_type", reward_type, REWARD_TYPES)
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=64)
        self.reward_type = reward_type
        self.max_steps = check_integer("max_steps", max_steps, 1, usual=60)
        self.render_mode = render_mode
        self.visualization_size = check_pixels("visualization_size", visualization_size, usual=512)

        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = self._make_observation_space()
        self._painter = _Painter(self.resolution) if obs_type == "pixels" else None
        self._visualizer: _Painter | None = None
        self._ball: Point = (0.0, -NEAR)
        self._set_goal((0.0, NEAR))
        self._elapsed = 0

    # ------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: unknown options, a seed below 0, or a state or goal that is no place for the ball.
        """
        super().reset(seed=check_seed(seed))
        asked = zip(("state", "goal"), options_of(options), strict=True)
        state, goal = (None if value is None else _as_place(name, value) for name, value in asked)
        ball, target = state or self._draw(-1.0), goal or self._draw(1.0)
        while math.dist(ball, target) < TOLERANCE and (state is None or goal is None):
            ball, target = state or self._draw(-1.0), goal or self._draw(1.0)
        self._ball = ball
        self._set_goal(target)
        self._elapsed = 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move the ball by 0.1 x action, as far as barrier and borders let it.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        right, up = as_unit_action(action, self.action_space)
        self._ball = moved(*self._ball, STEP * right, STEP * up)
        self._elapsed += 1
        info = self._info()
        reward = _reward(self.reward_type, info["distance"])
        return self._observe(), float(reward), False, self._elapsed >= self.max_steps, info

    def render(self) -> Any:
        """The scene with the goal, uint8 [visualization_size, visualization_size, 3]."""
        if self.render_mode is None:
            gym.logger.warn('render() expected a render mode, got None: try gym.make(..., render_mode="rgb_array").')
            return None
        if self._visualizer is None:
            self._visualizer = _Painter(self.visualization_size)
        return self._visualizer.draw(self._ball, goal=self._goal)

    # ------------------------------------------------------------------ beyond gymnasium

    def get_state(self) -> Array:
        """x and y of the ball, float64 [2]."""
        return np.array(self._ball)

    def set_state(self, state: Any) -> None:
        """Put the ball at `state`, x and y; goal and elapsed time stay.

        Raises:
            ValueError: not two finite numbers, beyond the borders, or inside the barrier.
        """
        self._ball = _as_place("state", state)

    def make_expert(self, seed: int | None = None) -> BallNavPolicy:
        """A scripted policy for data: `policy.act()` heads for places of its own, whatever the goal is.

        Args:
            seed: seed of the policy's own random numbers.
        """
        return BallNavPolicy(lambda: self._ball, free_place, STEP, seed)

    # ------------------------------------------------------------------ the parts

    def _draw(self, half: float) -> Point:
        """A random place in the lower (-1) or the upper (1) half of the world."""
        x, y = self.np_random.uniform((-SIDE, NEAR), (SIDE, FAR))
        return float(x), half * float(y)

    def _set_goal(self, goal: Point) -> None:
        self._goal = goal
        self._goal_image = None if self._painter is None else self._painter.draw(goal)

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        a, d = np.asarray(achieved, dtype=np.float64), np.asarray(desired, dtype=np.float64)
        return _reward(self.reward_type, np.hypot(a[..., 0] - d[..., 0], a[..., 1] - d[..., 1]))

    def _info(self) -> dict[str, Any]:
        distance = float(np.hypot(self._ball[0] - self._goal[0], self._ball[1] - self._goal[1]))
        return {
            "is_success": distance < TOLERANCE,
            "distance": distance,
            "state": self.get_state(),
            "goal_state": np.array(self._goal),
        }

    def _make_observation_space(self) -> spaces.Space[Any]:
        if self.obs_type == "pixels":
            image = spaces.Box(0, 255, (self.resolution, self.resolution, 3), np.uint8)
            return spaces.Dict({"pixels": image, "goal": image})
        place = spaces.Box(-WORLD, WORLD, (2,), np.float64)
        return spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})

    def _observe(self) -> dict[str, Any]:
        if self._painter is None:
            return {
                "observation": self.get_state(),
                "achieved_goal": self.get_state(),
                "desired_goal": np.array(self._goal),
            }
        assert self._goal_image is not None
        return {"pixels": self._painter.draw(self._ball), "goal": self._goal_image.copy()}


# ---------------------------------------------------------------------- the world


def is_inside_barrier(x: float, y: float) -> bool:
    """Whether a place is strictly inside the barrier; its faces are not."""
    return abs(x) < BARRIER_HALF_WIDTH and abs(y) < BARRIER_HALF_HEIGHT


def moved(x: float, y: float, dx: float, dy: float) -> Point:
    """Where the ball ends that is at (x, y), outside the barrier, and is told to move by (dx, dy)."""
    to_x, to_y = x + dx, y + dy
    enter_x, leave_x = _crossing(x, dx, BARRIER_HALF_WIDTH)
    enter_y, leave_y = _crossing(y, dy, BARRIER_HALF_HEIGHT)
    # Start and face are less than a step apart, so their difference is exact and no end lies inside by rounding.
    if 0.0 <= max(enter_x, enter_y) < min(leave_x, leave_y, 1.0):
        # The ball is between two opposite faces of the barrier from the smaller of the two times on, and so it meets
        # the face of the other.
        if enter_x > enter_y:
            to_x = math.copysign(BARRIER_HALF_WIDTH, x)
        else:
            to_y = math.copysign(BARRIER_HALF_HEIGHT, y)
    return min(max(to_x, -WORLD), WORLD), min(max(to_y, -WORLD), WORLD)


def _crossing(start: float, motion: float, half: float) -> tuple[float, float]:
    """When a motion along one axis enters and leaves (-half, half), in shares of the motion."""
    if motion == 0.0:
        return (-math.inf, math.inf) if abs(start) < half else (math.inf, -math.inf)
    near = math.copysign(half, -motion)
    return (near - start) / motion, (-near - start) / motion


def free_place(rng: np.random.Generator) -> Point:
    """A place drawn uniformly from the world without the barrier."""
    while True:
        x, y = rng.uniform(-WORLD, WORLD, 2).tolist()
        if not is_inside_barrier(x, y):
            return x, y


def _reward(reward_type: str, distance: Any) -> Any:
    if reward_type == "dense":
        return -distance
    return (distance < TOLERANCE) - 1.0


# ---------------------------------------------------------------------- what users hand in


def _as_place(name: str, value: Any) -> Point:
    x, y = as_numbers(name, value, (2,), "x, y").tolist()
    if max(abs(x), abs(y)) > WORLD:
        raise ValueError(
            f"expected {name} inside the world, [-1, 1] x [-1, 1], got {[x, y]}, try a place such as [0, -0.5]."
        )
    if is_inside_barrier(x, y):
        raise ValueError(
            f"expected {name} outside the barrier, which covers |x| < {BARRIER_HALF_WIDTH:g} and "
            f"|y| < {BARRIER_HALF_HEIGHT:g}, got {[x, y]}, try a place such as [0, -0.5]."
        )
    return x, y


# ---------------------------------------------------------------------- pictures


class _Painter:
    """Draws square pictures of one size; `resolution` is the side in pixels."""

    def __init__(self, resolution: int) -> None:
        # A canvas begins at (0, 0) and its y points down: place (x, y) of the world is (WORLD + x, WORLD - y) there.
        self._canvas = Canvas(resolution, 2 * WORLD)
        self._empty = self._canvas.blank(_WHITE)
        left, right = WORLD - BARRIER_HALF_WIDTH, WORLD + BARRIER_HALF_WIDTH
        top, bottom = WORLD - BARRIER_HALF_HEIGHT, WORLD + BARRIER_HALF_HEIGHT
        self._canvas.rectangle(self._empty, left, top, right, bottom, _BARRIER)

    def draw(self, ball: Point, goal: Point | None = None) -> Image:
        """A new picture of barrier and ball; if there is a `goal`, a pale disk beneath the ball covers all of it."""
        image = self._empty.copy()
        if goal is not None:
            self._disk(image, goal, TOLERANCE, _GOAL)
        self._disk(image, ball, BALL_RADIUS, _BALL)
        return image

    def _disk(self, image: Image, place: Point, radius: float, colour: NDArray[np.float32]) -> None:
        self._canvas.disk(image, WORLD + place[0], WORLD - place[1], radius, colour)


_WHITE, _BARRIER = colour_of(WHITE), colour_of(BARRIER_COLOUR)
_BALL, _GOAL = colour_of(BALL_COLOUR), colour_of(GOAL_COLOUR)
