"""Two rooms and a door: move a dot to a place in the other room."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_envs.canvas import EVERYWHERE, Canvas, Image, Window, colour_of, mix
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
    shown,
)
from grasp_envs.wall_policy import WallPolicy

OBS_TYPES = ("state", "pixels")
SUCCESS_TYPES = ("moderate", "strict")
REWARD_TYPES = ("sparse", "dense")

# All lengths are in px of the world.
SIZE = 65.0
LOW, HIGH = 4.0, 60.0
WALL_X = 32.0
WALL_HALF_THICKNESS = 3.0
WALL_LEFT, WALL_RIGHT = WALL_X - WALL_HALF_THICKNESS, WALL_X + WALL_HALF_THICKNESS
DOOR_HALF_WIDTH = 4.0
# The whole gap must lie between the borders.
DOOR_LOW, DOOR_HIGH = LOW + DOOR_HALF_WIDTH, HIGH - DOOR_HALF_WIDTH
STEP = 2.0
# Starts and goals keep this far from wall and borders.
MARGIN = 2.0
TOLERANCES = {"moderate": 4.5, "strict": 2.3}

DOT_SIGMA = 1.7
# From 3.53 sigma on the dot changes no value of a picture by half a level.
DOT_REACH = 4.0 * DOT_SIGMA
RING_THICKNESS = 0.6
WHITE = (255, 255, 255)
WALL_COLOUR = (128, 128, 128)
DOT_COLOUR = (255, 0, 0)
RING_COLOUR = (255, 190, 190)

Point = tuple[float, float]
Box = tuple[float, float, float, float]


class Rooms:
    """Where the dot's centre may be: two rooms and the door between them, three boxes x0, y0, x1, y1 [px].

    The boxes are closed: the dot may lie on a surface, never behind it.

    Args:
        door: y of the door's centre [px].
    """

    def __init__(self, door: float) -> None:
        self.left: Box = (LOW, LOW, WALL_LEFT, HIGH)
        self.right: Box = (WALL_RIGHT, LOW, HIGH, HIGH)
        self.door: Box = (WALL_LEFT, door - DOOR_HALF_WIDTH, WALL_RIGHT, door + DOOR_HALF_WIDTH)
        # The rooms first: who stands in a doorway is free to slide along the room's side of the wall.
        self.boxes = (self.left, self.right, self.door)

    def free(self, x: float, y: float) -> bool:
        """Whether the dot's centre may be at (x, y)."""
        return any(_holds(box, x, y) for box in self.boxes)

    def draw(self, rng: np.random.Generator) -> Point:
        """A place drawn uniformly from the whole free space."""
        while True:
            x, y = (float(value) for value in rng.uniform(LOW, HIGH, 2))
            if self.free(x, y):
                return x, y

    def move(self, x: float, y: float, dx: float, dy: float) -> Point:
        """Where a dot at a free (x, y) ends when it sets out for (x + dx, y + dy), however far that is.

        It goes straight to the first surface in its way. What is left of the motion then loses its component
        against that surface, and goes on from there: the dot slides. A component once lost does not come back
        within the motion, also where the surface ends.

        Each stretch of the way lies in one box, and the dot is held in it by minimum and maximum: no rounding
        can put it into the wall.
        """
        box = next(box for box in self.boxes if _holds(box, x, y))
        while True:
            x0, y0, x1, y1 = box
            until_x, until_y = _share(x, dx, x0, x1), _share(y, dy, y0, y1)
            share = min(until_x, until_y, 1.0)
            x, y = min(max(x + share * dx, x0), x1), min(max(y + share * dy, y0), y1)
            if share == 1.0:
                return x, y
            if until_x <= until_y:
                x = x1 if dx > 0.0 else x0
                # The boxes lie side by side in x: this may be the way through the door.
                beyond = next((other for other in self.boxes if other is not box and _holds(other, x, y)), None)
                if beyond is None:
                    dx = 0.0
                else:
                    box = beyond
            else:
                y = y1 if dy > 0.0 else y0
                dy = 0.0
            dx, dy = (1.0 - share) * dx, (1.0 - share) * dy


def _holds(box: Box, x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _share(start: float, motion: float, low: float, high: float) -> float:
    """The share of a motion along one axis after which it reaches an end of [low, high]; 1 or more if it does not."""
    if motion == 0.0:
        return math.inf
    return ((high if motion > 0.0 else low) - start) / motion


class WallPainter:
    """Draws square pictures of one size: grey walls, the dot, and for people a ring about the goal.

    Args:
        resolution: side of the pictures, in pixels.
        rooms: the free space.
    """

    def __init__(self, resolution: int, rooms: Rooms) -> None:
        self._canvas = Canvas(resolution, SIZE)
        self._empty = self._canvas.blank(_WALL)
        # The boxes share no area, so their shares of a pixel add up.
        mix(self._empty, EVERYWHERE, np.sum([self._canvas.share(*box) for box in rooms.boxes], axis=0), _WHITE)

    def draw(self, dot: Point, goal: Point | None = None, radius: float = 0.0) -> Image:
        """The scene as uint8 [resolution, resolution, 3], a new array each call.

        Args:
            dot: the dot's centre [px of the world].
            goal: centre of a pale ring beneath the dot, or None for no ring.
            radius: the ring's radius [px of the world].
        """
        image = self._empty.copy()
        if goal is not None:
            self._draw_ring(image, *goal, radius)
        self._draw_dot(image, *dot)
        return image

    def _draw_ring(self, image: Image, x: float, y: float, radius: float) -> None:
        reach = radius + RING_THICKNESS
        window = self._canvas.window(x - reach, y - reach, x + reach, y + reach)
        assert window is not None  # goals lie within the borders
        dx, dy = self._offsets(window, x, y)
        distance = np.sqrt(dx * dx + dy[:, None] * dy[:, None])
        distance -= radius
        np.abs(distance, out=distance)
        distance -= RING_THICKNESS / 2
        self._canvas.blend(image, window, distance, _RING)

    def _draw_dot(self, image: Image, x: float, y: float) -> None:
        window = self._canvas.window(x - DOT_REACH, y - DOT_REACH, x + DOT_REACH, y + DOT_REACH)
        assert window is not None  # the dot lies within the borders
        along_x, along_y = (np.exp(d * d / (-2.0 * DOT_SIGMA**2)) for d in self._offsets(window, x, y))
        mix(image, window, along_y[:, None] * along_x, _DOT)

    def _offsets(self, window: Window, x: float, y: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The window's columns less x and its rows less y [px of the world]."""
        rows, columns = window
        return self._canvas.centres[columns] - x, self._canvas.centres[rows] - y


_WHITE, _WALL, _DOT, _RING = (colour_of(rgb) for rgb in (WHITE, WALL_COLOUR, DOT_COLOUR, RING_COLOUR))


class WallEnv(GoalRewards, gym.Env[Any, Any]):
    """Move a dot through a door to a place in the other room.

    ## Description

    The world of DINO-WM's wall task: 65 x 65 px, x to the right, y down. The dot's centre stays within [4, 60]
    in x and y. A vertical wall from x = 29 to x = 35 parts two rooms. Its door is a gap 8 px wide in y, and its
    centre lies at y = `door`. What collides is the dot's centre, so the door is as wide as its gap.

    A step is a straight path, and collisions are found all along it: the dot neither enters the wall nor jumps
    it. Where the path meets the wall or a border, the rest of the step loses its component against that
    surface: the dot slides along it. A component once lost does not come back within the step, so a dot that
    slides past the door's edge enters the door in the next step. (In the original a dot that meets the wall
    is set back by half a pixel.)

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the dot moves by 2 px times the action. Values beyond the box are clipped to it.

    ## Observation Space

    A `Dict`, by `obs_type`:

    - `"state"`: `observation` = x, y of the dot; `achieved_goal` the same; `desired_goal` = x, y of the goal.
      Each is `Box(4, 60, (2,), float64)`, in px. `compute_reward` is there, so hindsight experience replay runs
      on it.
    - `"pixels"`: `pixels` and `goal`, both `Box(0, 255, (resolution, resolution, 3), uint8)`: the world as it is
      and as it looks with the dot at its goal. `pixels` shows nothing of the goal.

    In the pictures the free space is white and the wall and all beyond the borders grey. The dot is red, a
    Gaussian of standard deviation 1.7 px.

    `info` holds, after every reset and step:

    - `is_success`, and `distance` (px from the dot to the goal);
    - `state`: `get_state()`, and `goal_state`: x, y of the goal (for evaluation, never for an agent).

    ## Rewards

    `reward_type="sparse"`: 0 on success, else -1. `"dense"`: -distance / 65 px.

    ## Success

    `success="moderate"`: the distance is below 4.5 px, as in DINO-WM. `"strict"`: it is below 2.3 px (8 px in a
    picture 224 px wide), and the dot is on the goal's side of the wall. A dot in the door is on neither side; a
    goal in the door asks for a dot in the door. That the dot crossed legally holds by construction: the door is
    the only way.

    ## Starting State

    One room, drawn at random, has the start and the other the goal, both uniform at 2 px or more from wall and
    borders. `reset(options={"state": s, "goal": g})` sets exactly what is asked, each x, y of a free place. The
    one that is not given is drawn in the room on the other side of the wall's middle.

    ## Episode End

    Never terminates (staying at the goal is part of the task); truncates after `max_steps` steps.

    ## Arguments

    - `obs_type`: `"state"` or `"pixels"`; default `"state"`.
    - `resolution`: side of pixel observations in pixels; default 64.
    - `door`: y of the door's centre in px, within [8, 56]; default 20.
    - `success`: `"moderate"` or `"strict"`; default `"moderate"`.
    - `reward_type`: `"sparse"` or `"dense"`; default `"sparse"`.
    - `max_steps`: steps of an episode, at least 1; default 100.
    - `render_mode`: `None` or `"rgb_array"`, which shows the tolerance round the goal as a pale ring.
    - `visualization_size`: side of `render()`'s image in pixels; default 512.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "state",
        resolution: int = 64,
        door: float = 20.0,
        success: str = "moderate",
        reward_type: str = "sparse",
        max_steps: int = 100,
        render_mode: str | None = None,
        visualization_size: int = 512,
    ) -> None:
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("success", success, SUCCESS_TYPES)
        check_choice("reward_type", reward_type, REWARD_TYPES)
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=64)
        self.door = _check_door(door)
        self.success = success
        self.reward_type = reward_type
        self.max_steps = check_integer("max_steps", max_steps, 1, usual=100)
        self.render_mode = render_mode
        self.visualization_size = check_pixels("visualization_size", visualization_size, usual=512)

        self.rooms = Rooms(self.door)
        self.observation_space = self._make_observation_space()
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._painter = WallPainter(self.resolution, self.rooms) if obs_type == "pixels" else None
        self._visualizer: WallPainter | None = None
        # Until the first reset: the middles of the two rooms.
        self._position, self._goal = _middle(self.rooms.left), _middle(self.rooms.right)
        self._begin(self._position, self._goal)

    # ------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: unknown options, a seed below 0, or a state or goal that is not two numbers or not free.
        """
        super().reset(seed=check_seed(seed))
        self._begin(*self._complete(*self._check_options(options)))
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move the dot by 2 px times `action`, sliding along what is in the way.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        self._position = self.rooms.move(*self._position, *self._to_motion(action))
        self._elapsed += 1
        info = self._info()
        reward = float(self._compute_reward(self._position, self._goal, info))
        return self._observe(), reward, False, self._elapsed >= self.max_steps, info

    def render(self) -> Any:
        """The scene as uint8 [visualization_size, visualization_size, 3], the goal as a pale ring."""
        if self.render_mode is None:
            gym.logger.warn('render() expected a render mode, got None: try gym.make(..., render_mode="rgb_array").')
            return None
        if self._visualizer is None:
            self._visualizer = WallPainter(self.visualization_size, self.rooms)
        return self._visualizer.draw(self._position, self._goal, TOLERANCES[self.success])

    # ------------------------------------------------------------------ beyond gymnasium

    def get_state(self) -> Array:
        """float64 [2]: x, y of the dot [px]."""
        return np.array(self._position)

    def set_state(self, state: Any) -> None:
        """Put the dot to x, y [px]; goal and elapsed time stay.

        Raises:
            ValueError: not two finite numbers, or not a free place.
        """
        self._position = self._check_place("state", state)

    def make_expert(self, seed: int | None = None) -> WallPolicy:
        """A scripted data policy for this environment: `act()` reads where the dot is and returns an action.

        Args:
            seed: seed of the policy's own random numbers.
        """
        return WallPolicy(self._where, self.rooms.draw, STEP, seed)

    # ------------------------------------------------------------------ the task

    def _begin(self, state: Point, goal: Point) -> None:
        self._elapsed = 0
        self._position, self._goal = state, goal
        self._goal_image = None if self._painter is None else self._painter.draw(goal)

    def _complete(self, state: Point | None, goal: Point | None) -> tuple[Point, Point]:
        """Start and goal, drawing what was not asked for."""
        if state is not None:
            start_is_left = state[0] < WALL_X
        elif goal is not None:
            start_is_left = goal[0] >= WALL_X
        else:
            start_is_left = bool(self.np_random.random() < 0.5)
        start_room, goal_room = self.rooms.left, self.rooms.right
        if not start_is_left:
            start_room, goal_room = goal_room, start_room
        if state is None:
            state = self._draw_in(start_room)
        return state, self._draw_in(goal_room) if goal is None else goal

    def _draw_in(self, room: Box) -> Point:
        x0, y0, x1, y1 = room
        rng = self.np_random
        return float(rng.uniform(x0 + MARGIN, x1 - MARGIN)), float(rng.uniform(y0 + MARGIN, y1 - MARGIN))

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        a, d = np.asarray(achieved, dtype=np.float64), np.asarray(desired, dtype=np.float64)
        if self.reward_type == "dense":
            return -_distance(a, d) / SIZE
        return self._solved(a, d) - 1.0

    def _solved(self, achieved: Array, desired: Array) -> Any:
        near = _distance(achieved, desired) < TOLERANCES[self.success]
        if self.success == "moderate":
            return near
        return near & (_side(achieved[..., 0]) == _side(desired[..., 0]))

    def _info(self) -> dict[str, Any]:
        state, goal = np.array(self._position), np.array(self._goal)
        return {
            "is_success": bool(self._solved(state, goal)),
            "distance": float(_distance(state, goal)),
            "state": state,
            "goal_state": goal,
        }

    def _observe(self) -> dict[str, Any]:
        if self._painter is None:
            return {
                "observation": np.array(self._position),
                "achieved_goal": np.array(self._position),
                "desired_goal": np.array(self._goal),
            }
        assert self._goal_image is not None
        return {"pixels": self._painter.draw(self._position), "goal": self._goal_image.copy()}

    def _make_observation_space(self) -> spaces.Dict:
        if self.obs_type == "state":
            names = ("observation", "achieved_goal", "desired_goal")
            return spaces.Dict({name: spaces.Box(LOW, HIGH, (2,), np.float64) for name in names})
        shape = (self.resolution, self.resolution, 3)
        return spaces.Dict({name: spaces.Box(0, 255, shape, np.uint8) for name in ("pixels", "goal")})

    def _where(self) -> Point:
        return self._position

    # ------------------------------------------------------------------ checks

    def _to_motion(self, action: Any) -> Point:
        """The motion [px] of an action."""
        x, y = as_unit_action(action, self.action_space)
        return STEP * x, STEP * y

    def _check_options(self, options: dict[str, Any] | None) -> tuple[Point | None, Point | None]:
        state, goal = options_of(options)
        return (
            None if state is None else self._check_place("state", state),
            None if goal is None else self._check_place("goal", goal),
        )

    def _check_place(self, name: str, value: Any) -> Point:
        x, y = (float(number) for number in as_numbers(name, value, (2,), "x, y"))
        if not self.rooms.free(x, y):
            raise ValueError(
                f"expected {name} to be a free place, x and y within [{LOW:g}, {HIGH:g}] px and not in the wall, "
                f"got {[x, y]}, try {list(_middle(self.rooms.left))}."
            )
        return x, y


def _check_door(value: Any) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not DOOR_LOW <= value <= DOOR_HIGH:
        raise ValueError(
            f"expected door, the y of its centre, to be a number within [{DOOR_LOW:g}, {DOOR_HIGH:g}] px, "
            f"got {shown(value)}, try 20."
        )
    return float(value)


def _middle(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _distance(achieved: Array, desired: Array) -> Any:
    """Distance [px] between places [..., 2], of shape [...]."""
    dx, dy = achieved[..., 0] - desired[..., 0], achieved[..., 1] - desired[..., 1]
    return np.sqrt(dx * dx + dy * dy)


def _side(x: Any) -> Any:
    """0 left of the wall, 1 in the door, 2 right of the wall."""
    return 0 + (x > WALL_LEFT) + (x >= WALL_RIGHT)
