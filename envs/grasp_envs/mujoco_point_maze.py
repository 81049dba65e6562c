"""The point maze of gymnasium-robotics, on MuJoCo, with the pictures and goal pictures of this package's worlds."""

from __future__ import annotations

import copy
import importlib
import math
import os
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import PIL.Image
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_envs.canvas import Image
from grasp_envs.goal_rewards import GoalRewards
from grasp_envs.point_maze_policy import PointMazePolicy
from grasp_envs.point_maze_simulation import DT, RADIUS, Array, Maze
from grasp_envs.point_maze_states import (
    MOST_SUBSTEPS,
    OBS_TYPES,
    REWARD_TYPES,
    SUCCESS_DISTANCE,
    check_options,
    check_state,
    goal_distance,
    info_of,
)
from grasp_envs.validation import as_unit_action, check_choice, check_integer, check_pixels, check_seed

UNIT = "m/s"

TIME_LIMITS = {"umaze": 300, "medium": 600, "large": 800}
"""How long gymnasium-robotics lets an episode last, by the maze's name [0.01 s]."""

ABOVE_WALLS = 1.0
"""Height at which the ball is drawn [m]; walls end at 0.4."""

FINE = 192
"""Pictures are drawn with about so many pixels a side, where they have less, and averaged down: MuJoCo's own smoothing
is too coarse to tell by a small picture where between two pixels the ball is."""


class MujocoPointMazeEnv(GoalRewards, gym.Env[Any, Any]):
    """gymnasium-robotics' PointMaze, shown by pictures and asked for by pictures.

    ## Description

    Forces drive a ball of radius 0.1 through a maze. The world is gymnasium-robotics' own, made with
    `continuing_task=False`: physics, starts, goals, reward, success and time limit are what they are in
    `PointMaze_UMaze-v3`, `PointMaze_Medium-v3` and `PointMaze_Large-v3`. This class adds pictures, and steps that last
    for several of gymnasium-robotics' steps. It needs `pip install gymnasium-robotics`. Without a screen, pictures
    need `MUJOCO_GL=egl` or `MUJOCO_GL=osmesa` in the process's environment.

    Coordinates are MuJoCo's: the origin is the middle of the maze, x points right, y points up, cells are 1 m wide.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the force along x and y, in units of 100 N. It lasts for the whole step. Values beyond
    the box are clipped to it.

    ## Observation Space

    Always a `Dict`, by `obs_type` (positions in m, velocities in m/s):

    - `"state"`: gymnasium-robotics' own: `observation` `Box(4)` = x, y, velocity x, velocity y; `achieved_goal` and
      `desired_goal` `Box(2)` = x, y. `compute_reward` is there, so hindsight experience replay runs on it.
    - `"pixels"`: `pixels` and `goal`, both `Box(0, 255, (resolution, resolution, 3), uint8)`: the ball where it is
      and where it shall be, at rest. Neither shows anything of the other.

    MuJoCo draws the pictures: the whole maze from straight above, without perspective. The target is left out. The
    ball is the green one of radius 0.2 that gymnasium-robotics draws, lifted above the walls, so that they hide
    nothing of it. Pictures are drawn from a copy of the world, which is never touched.

    `info` holds, after every reset and step:

    - `is_success`: whether `distance` is at most 0.45;
    - `distance`: from the ball to its goal, in a straight line (m);
    - `state`: `get_state()`;
    - `goal_state`: the goal's x, y and its velocity, 0, 0 (for evaluation, never for an agent).

    ## Rewards

    gymnasium-robotics': with `reward_type="sparse"` 1 on success, else 0; with `"dense"` exp(-distance).

    ## Starting State

    gymnasium-robotics': two different free cells, each place the middle of its cell plus uniform noise within +-0.25
    along either axis. The ball starts at rest.

    `reset(options={"state": s, "goal": g})` sets exactly what is asked: `s` = x, y, velocity x, velocity y, or x, y
    for a ball at rest; `g` = x, y. The ball must fit in there. What is not given is drawn so that it does not solve
    the task at the start.

    ## Episode End

    Terminates on success; truncates after `max_steps` steps.

    ## Arguments

    - `maze`: `"umaze"` (5 x 5 cells), `"medium"` (8 x 8), `"large"` (9 x 12), or a map as `grasp_envs/PointMaze-v0`
      takes it; default `"umaze"`.
    - `obs_type`: `"state"` or `"pixels"`; default `"state"`.
    - `resolution`: side of pixel observations in pixels; default 64.
    - `reward_type`: `"sparse"` or `"dense"`; default `"sparse"`.
    - `frame_skip`: how many of gymnasium-robotics' steps, of 0.01 s, a step takes; default 5.
    - `max_steps`: steps of an episode; `None`, the default, is gymnasium-robotics' limit: 3 s in the U-maze, 6 s in the
      medium maze, 8 s in all others. These are 60, 120 and 160 steps.
    - `render_mode`: `None` or `"rgb_array"`: the picture, with the target as gymnasium-robotics draws it.
    - `visualization_size`: side of `render()`'s image in pixels; default 512.

    Raises:
        ValueError: an argument is out of its range.
        gymnasium.error.DependencyNotInstalled: gymnasium-robotics is not there, or MuJoCo cannot draw.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        maze: Any = "umaze",
        obs_type: str = "state",
        resolution: int = 64,
        reward_type: str = "sparse",
        frame_skip: int = 5,
        max_steps: int | None = None,
        render_mode: str | None = None,
        visualization_size: int = 512,
    ) -> None:
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("reward_type", reward_type, REWARD_TYPES)
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.maze = Maze(maze)
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=64)
        self.reward_type = reward_type
        self.frame_skip = check_integer("frame_skip", frame_skip, 1, usual=5, most=MOST_SUBSTEPS)
        if max_steps is None:
            limit = TIME_LIMITS.get(maze, 800) if isinstance(maze, str) else 800
            max_steps = math.ceil(limit / self.frame_skip)
        self.max_steps = check_integer("max_steps", max_steps, 1, usual=300)
        self.metadata = {**self.metadata, "render_fps": max(round(1.0 / (DT * self.frame_skip)), 1)}
        self.render_mode = render_mode
        self.visualization_size = check_pixels("visualization_size", visualization_size, usual=512)

        self.world = _world_class()(
            maze_map=[[int(character == "#") for character in row] for row in self.maze.rows],
            reward_type=reward_type,
            continuing_task=False,
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        picture = spaces.Box(0, 255, (self.resolution, self.resolution, 3), np.uint8)
        self.observation_space = (
            spaces.Dict({"pixels": picture, "goal": picture}) if obs_type == "pixels" else self.world.observation_space
        )
        self._pictures = self._draws(self.resolution) if obs_type == "pixels" else None
        self._visualizer: _Pictures | None = None
        self._elapsed = 0
        self._goal: Array = np.zeros(2)
        self._goal_image: Image | None = None

    # ------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: unknown options, a seed below 0, or a state or goal of the wrong shape or where the ball does
                not fit in.
        """
        super().reset(seed=check_seed(seed))
        state, goal = check_options(options, self._check_place, UNIT)
        self._draw_episode(seed, state, goal)
        self._elapsed = 0
        self._goal = np.array(self.world.goal, dtype=np.float64)
        self._goal_image = None if self._pictures is None else self._pictures.draw(self._goal)
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push the ball for `frame_skip` x 0.01 s, or until it is at its goal.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        push = np.array(as_unit_action(action, self.action_space))
        for _ in range(self.frame_skip):
            _, reward, terminated, *_ = self.world.step(push)
            if terminated:
                break
        self._elapsed += 1
        return self._observe(), float(reward), bool(terminated), self._elapsed >= self.max_steps, self._info()

    def render(self) -> Any:
        """The scene with its target as uint8 [visualization_size, visualization_size, 3]."""
        if self.render_mode is None:
            gym.logger.warn('render() expected a render mode, got None: try gym.make(..., render_mode="rgb_array").')
            return None
        if self._visualizer is None:
            self._visualizer = self._draws(self.visualization_size)
        return self._visualizer.draw(self.get_state()[:2], self._goal)

    def close(self) -> None:
        """Free what MuJoCo draws with."""
        for pictures in (self._pictures, self._visualizer):
            if pictures is not None:
                pictures.close()
        self.world.close()

    # ------------------------------------------------------------------ beyond gymnasium

    def get_state(self) -> Array:
        """float64 [4]: x, y [m], velocity x, y [m/s]."""
        return np.concatenate([self.world.data.qpos, self.world.data.qvel])

    def set_state(self, state: Any) -> None:
        """Put the ball into `state`, 4 numbers as `get_state` gives them, or 2 for a ball at rest.

        Goal and elapsed time stay.

        Raises:
            ValueError: wrong shape, not finite, too fast, or where the ball does not fit in.
        """
        self._place(check_state(state, self._check_place, UNIT))

    def make_expert(self, seed: int | None = None) -> Wanderer:
        """A data policy for this environment: `policy.act()` reads its simulator and returns an action.

        It wanders between random places and knows nothing of walls; `seed` is the seed of its own random numbers.
        """
        return Wanderer(self, seed)

    # ------------------------------------------------------------------ start and goal

    def _draw_episode(self, seed: int | None, state: Array | None, goal: Array | None) -> None:
        """Let gymnasium-robotics draw start and goal, and put what is given in their places."""
        self.world.reset(seed=seed)
        if state is None and goal is None:
            return
        while state is None or goal is None:
            start = self.get_state() if state is None else state
            end = self.world.goal if goal is None else goal
            if goal_distance(start[:2], end) > SUCCESS_DISTANCE:
                break
            self.world.reset()
        if goal is not None:
            self.world.goal = goal.copy()
            self.world.update_target_site_pos()
        if state is not None:
            self._place(state)

    def _place(self, state: Array) -> None:
        self.world.point_env.set_state(state[:2], state[2:])

    def _check_place(self, name: str, values: Array) -> Array:
        if not self.maze.is_free(*self.to_cells(values)):
            column, row = self.maze.cells[0]
            free = [column + 0.5 - self.maze.width / 2, self.maze.height / 2 - row - 0.5]
            raise ValueError(
                f"expected {name} where the ball, of radius {RADIUS:g}, fits between the walls, got "
                f"{values[:2].tolist()}, try the middle of a free cell such as {free}."
            )
        return values

    def to_cells(self, place: Array) -> tuple[float, float]:
        """A place [m] as column and row, counted from the map's top left corner [cells]."""
        return float(place[0]) + self.maze.width / 2, self.maze.height / 2 - float(place[1])

    # ------------------------------------------------------------------ observations

    def _draws(self, side: int) -> _Pictures:
        return _Pictures(self.world.model, side, max(self.maze.width, self.maze.height))

    def _observe(self) -> dict[str, Any]:
        state = self.get_state()
        if self._pictures is not None:
            assert self._goal_image is not None
            return {"pixels": self._pictures.draw(state[:2]), "goal": self._goal_image.copy()}
        return {"observation": state, "achieved_goal": state[:2].copy(), "desired_goal": self._goal.copy()}

    def _info(self) -> dict[str, Any]:
        return info_of(self.get_state(), self._goal)

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return self.world.compute_reward(np.asarray(achieved), np.asarray(desired), info)


class Wanderer:
    """`PointMazePolicy` in MuJoCo's coordinates. It reads the ball as the policy does: in cells, y pointing down.

    Args:
        env: the environment to act in.
        seed: of the policy's own random numbers.
    """

    def __init__(self, env: MujocoPointMazeEnv, seed: int | None) -> None:
        self._env = env
        self._policy = PointMazePolicy(self, env.frame_skip, seed)

    def act(self) -> NDArray[np.float32]:
        """The next action, float32 [2], each component in [-1, 1]."""
        right, down = self._policy.act()
        return np.array([right, -down], dtype=np.float32)

    @property
    def maze(self) -> Maze:
        return self._env.maze

    @property
    def x(self) -> float:
        return self._env.to_cells(self._env.get_state())[0]

    @property
    def y(self) -> float:
        return self._env.to_cells(self._env.get_state())[1]

    @property
    def vx(self) -> float:
        return float(self._env.get_state()[2])

    @property
    def vy(self) -> float:
        return -float(self._env.get_state()[3])


class _Pictures:
    """Draws a maze and its ball from straight above, with a model and data of its own.

    Args:
        model: MuJoCo's model of the world; it is copied.
        side: height and width of the pictures [px].
        width: of the square that they show [m].

    Raises:
        gymnasium.error.DependencyNotInstalled: MuJoCo cannot draw here.
    """

    def __init__(self, model: Any, side: int, width: float) -> None:
        mujoco = importlib.import_module("mujoco")
        self._forward = mujoco.mj_forward
        self._model = copy.copy(model)
        self._side, drawn = side, side * max(FINE // side, 1)
        look = self._model.vis.global_
        look.offwidth, look.offheight = drawn, drawn
        # Of a camera without perspective, this is the height of what it shows.
        look.orthographic, look.fovy = 1, width
        # The only light is at the camera and casts no shadow. A map of shadows would be 40 MB in every environment.
        self._model.vis.quality.shadowsize = 0
        self._target = self._model.site("target")
        self._colour = self._target.rgba.copy()
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self._model, self._camera)
        self._camera.lookat[:] = 0.0
        self._camera.distance, self._camera.azimuth, self._camera.elevation = 2.0 * width, 90.0, -90.0
        try:
            with warnings.catch_warnings():  # glfw warns, and then fails
                warnings.simplefilter("ignore")
                self._renderer = mujoco.Renderer(self._model, drawn, drawn)
        except Exception as error:  # graphics libraries fail in any way
            raise _cannot_draw(error) from error

    def draw(self, ball: Array, target: Array | None = None) -> Image:
        """The ball at `ball` [2], and the target if one is given, as a new uint8 [side, side, 3]."""
        self._target.rgba[:] = self._colour if target is not None else 0.0
        self._data.qpos[:] = ball
        self._forward(self._model, self._data)
        # Only now: where a site of the model shares its body's frame, MuJoCo never looks at its place there.
        self._data.site("particle_site").xpos[2] = ABOVE_WALLS
        if target is not None:
            self._data.site("target").xpos[:2] = target
        self._renderer.update_scene(self._data, self._camera)
        picture = self._renderer.render()
        if len(picture) == self._side:
            return np.array(picture)
        return np.array(PIL.Image.fromarray(picture).resize((self._side, self._side), PIL.Image.Resampling.BOX))

    def close(self) -> None:
        self._renderer.close()


def _world_class() -> Any:
    """gymnasium-robotics' class, if it can work here."""
    try:
        return importlib.import_module("gymnasium_robotics.envs.maze.point_maze").PointMazeEnv
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise gym.error.DependencyNotInstalled(
            f"expected the package gymnasium-robotics, got none ({error}); try `pip install gymnasium-robotics`, or"
            " play grasp_envs/PointMaze-v0, which is alike and needs no MuJoCo"
        ) from None
    except Exception as error:  # MuJoCo loads what it draws with when it is imported
        raise _cannot_draw(error) from error


def _cannot_draw(error: Exception) -> gym.error.DependencyNotInstalled:
    reason = " ".join(str(error).split()) or type(error).__name__
    now = os.environ.get("MUJOCO_GL")
    others = " or ".join(f"MUJOCO_GL={name}" for name in ("egl", "osmesa") if name != now)
    return gym.error.DependencyNotInstalled(
        f"expected MuJoCo to draw pictures, got {reason[:200]}; on a machine without a screen set {others}"
        f" (now {now or 'not set'})"
    )
