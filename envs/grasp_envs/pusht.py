"""The classic Push-T task: push the T onto a fixed goal pose."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from grasp_envs.canvas import Image
from grasp_envs.human_window import HumanWindow
from grasp_envs.pusht_checks import MAX_SPEED, check_leaning, check_range, check_state
from grasp_envs.pusht_expert import PushTExpert
from grasp_envs.pusht_rendering import PushTRenderer
from grasp_envs.pusht_simulation import (
    ARENA,
    Array,
    Pose,
    PushTSimulation,
    coverage,
    keypoints,
    random_start,
)
from grasp_envs.validation import as_action, as_numbers, check_choice, check_pixels, check_seed, options_of, shown

OBS_TYPES = ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")
CONTROLS = ("relative", "absolute")
RELATIVE_REACH = 100.0
SUCCESS_COVERAGE = 0.95
DEFAULT_GOAL: Pose = (256.0, 256.0, math.pi / 4)

# Where a block's origin and its corners can get to: the agent is infinitely strong and can squeeze the block
# into the walls and even through them.
_BLOCK_LOW, _BLOCK_HIGH = -256.0, 768.0
_CORNER_LOW, _CORNER_HIGH = -400.0, 912.0
STATE_LOW: Array = np.array([0.0, 0.0, _BLOCK_LOW, _BLOCK_LOW, 0.0, -MAX_SPEED, -MAX_SPEED])
STATE_HIGH: Array = np.array([ARENA, ARENA, _BLOCK_HIGH, _BLOCK_HIGH, 2 * math.pi, MAX_SPEED, MAX_SPEED])


class PushTEnv(gym.Env[Any, Any]):
    """Push-T with gym-pusht's physics, observations and reward.

    ## Description

    A round agent pushes a T-shaped block in a walled 512 x 512 px arena onto a fixed goal pose. The physics,
    the coverage and the reward agree with gym-pusht 0.1.8 (the diffusion-policy task) to 1e-9.

    ## Action Space

    `control="relative"` (default): `Box(-1, 1, (2,), float32)`; the agent's target is its position + 100 a,
    held inside the arena. `control="absolute"`: `Box(0, 512, (2,), float32)`; the action is the target [px]
    itself. Values beyond the box are clipped to it. A PD controller follows the target for 0.1 s a step.

    ## Observation Space

    By `obs_type`, with gym-pusht's names and meanings (positions in px, y down, angle in [0, 2 pi]):

    - `"state"`: `Box(5)` = agent x, agent y, block x, block y, block angle.
    - `"environment_state_agent_pos"`: `Dict` of `environment_state` `Box(16)`, the T's eight corners (x0, y0,
      x1, ...), and `agent_pos` `Box(2)`.
    - `"pixels"`: `Box(0, 255, (resolution, resolution, 3), uint8)`, the goal drawn in green beneath the
      block.
    - `"pixels_agent_pos"`: `Dict` of `pixels` and `agent_pos`.

    The corners, bar first (in the block's frame 0 is (-60, 0), 2 is (60, 30), 6 is (15, 120)):

        0-----------1
        |           |
        3---4---5---2
            |   |
            7---6

    `info` holds, after every reset and step:

    - `is_success`, `coverage`, and `block_error` (px between block and goal origins), `angle_error` (rad);
    - `n_agent_block_contacts`: contact points when the two first touched in the step, 0 if they never did;
    - `n_block_wall_contacts`: contact points at the end of the step;
    - `state`: `get_state()`;
    - `goal`: with pixel observations an image of the same form with the block at the goal pose and the agent
      next to the middle of its bar, otherwise the goal pose (x, y, angle).

    ## Rewards

    coverage / 0.95, at most 1, where coverage is the share of the goal T that the block covers.

    ## Starting State

    Agent uniform on the integers 50..449 in x and y, block 100..399, angle uniform in [-pi, pi); starts where
    agent and block overlap or the block pokes a wall are drawn again.
    `reset(options={"state": s, "goal": g})` sets exactly what is asked: `s` = the 5 numbers of the state, or
    7 with the agent's velocity; `g` = goal x, y, angle. Positions must lie in the arena, [0, 512].

    ## Episode End

    Termination at coverage > 0.95; truncation after 300 steps (by `gymnasium.make`).

    ## Arguments

    - `obs_type`: one of the above; default `"state"`.
    - `resolution`: side of pixel observations in pixels; default 96.
    - `control`: `"relative"` or `"absolute"`; default `"relative"`.
    - `render_mode`: `None`, `"rgb_array"` or `"human"` (a window; needs the extra `[human]`).
    - `visualization_size`: side of `render()`'s image in pixels; default 512.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "state",
        resolution: int = 96,
        control: str = "relative",
        render_mode: str | None = None,
        visualization_size: int = 512,
    ) -> None:
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("control", control, CONTROLS)
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=96)
        self.control = control
        self.render_mode = render_mode
        self.visualization_size = check_pixels("visualization_size", visualization_size, usual=512)

        self.simulation = PushTSimulation()
        self.goal_pose: Pose = DEFAULT_GOAL
        self.observation_space = self._make_observation_space()
        self.action_space = (
            spaces.Box(-1.0, 1.0, (2,), np.float32)
            if control == "relative"
            else spaces.Box(0.0, ARENA, (2,), np.float32)
        )
        self._renderer = PushTRenderer(resolution) if self._sees_pixels else None
        self._visualizer: PushTRenderer | None = None
        self._window: HumanWindow | None = None
        self._goal_image: Image | None = None

    # ------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: unknown options, a seed below 0, or a state or goal of the wrong shape or outside the arena.
        """
        super().reset(seed=check_seed(seed))
        state, goal = self._check_options(options)
        self._begin(state, goal)
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drive the agent towards the action's target for 0.1 s.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        self.simulation.step(*self._to_target(action))
        info = self._info()
        if self.render_mode == "human":
            self.render()
        return (self._observe(), *self._outcome(info), info)

    def render(self) -> Any:
        """The scene as uint8 [visualization_size, visualization_size, 3]; in human mode shown in a window."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() expected a render mode, got None: try gym.make(..., render_mode="rgb_array") or "human".'
            )
            return None
        if self._visualizer is None:
            self._visualizer = PushTRenderer(self.visualization_size)
        image = self._draw_visualization(self._visualizer)
        if self.render_mode == "rgb_array":
            return image
        if self._window is None:
            self._window = HumanWindow("Push-T", self.metadata["render_fps"])
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    # ------------------------------------------------------------------ beyond gymnasium

    def get_state(self) -> Array:
        """float64 [7]: agent x, y, block x, y, angle (unwrapped), agent velocity x, y."""
        return self.simulation.get_state()

    def set_state(self, state: Any) -> None:
        """Put the world into `state`, 7 numbers as `get_state` gives them, or 5 for an agent at rest.

        Goal and elapsed time stay. Nearly every continuation is the original's; the contact solver's cache is
        not part of the state, so a block in contact can deviate a little.

        Raises:
            ValueError: wrong shape, not finite, or out of the range any motion can reach.
        """
        self.simulation.set_state(check_state("state", state, _BLOCK_LOW, _BLOCK_HIGH))

    def make_expert(self, seed: int | None = None, goal: Any = None, leaning: float = 0.0) -> PushTExpert:
        """A scripted policy for this environment: `expert.act()` reads its simulator and returns an action.

        Args:
            seed: seed of the expert's own noise.
            goal: None to wander purposefully between random block poses; "task" for the environment's present
                goal; or numbers: block x, y, angle, or agent x, y, block x, y, angle.
            leaning: share of the strokes, 0 to 1, in the middle of which it stops to lean against the block, moving
                by little for 12 to 40 steps. For data; only without a goal.

        Raises:
            ValueError: `goal` is none of these, or `leaning` no share, or given with a goal.
        """
        check_leaning(leaning, goal)
        if goal is None:
            return PushTExpert(self.simulation, seed, None, self._to_action, leaning)
        if isinstance(goal, str):
            if goal != "task":
                raise ValueError(f'expected goal to be None, "task" or numbers, got {shown(goal)}, try "task".')
            return PushTExpert(self.simulation, seed, self._task_goal(), self._to_action)
        values = as_numbers("goal", goal, (3, 5), "block x, y, angle or agent x, y, block x, y, angle")
        return PushTExpert(self.simulation, seed, values.tolist(), self._to_action)

    def __getstate__(self) -> dict[str, Any]:
        # A window belongs to its process.
        return {**self.__dict__, "_window": None}

    # ------------------------------------------------------------------ what a task decides

    def _begin(self, state: Array | None, goal: Array | None) -> None:
        """Put the world and the goal into their initial states, drawing what was not asked for."""
        x, y, angle = DEFAULT_GOAL if goal is None else (float(value) for value in goal)
        self.goal_pose = (x, y, angle)
        if state is None:
            state = random_start(self.np_random)
            while coverage(block_of(state), self.goal_pose) > SUCCESS_COVERAGE:
                state = random_start(self.np_random)
        self.simulation.set_state(state)
        if self._renderer is not None:
            self._goal_image = self._renderer.draw(beside_bar(self.goal_pose), self.goal_pose, self.goal_pose)

    def _check_goal(self, goal: Any) -> Array:
        values = as_numbers("goal", goal, (3,), "block x, y, angle")
        check_range("goal", values[:2], 0.0, ARENA)
        return values

    def _task_goal(self) -> list[float]:
        return list(self.goal_pose)

    def _outcome(self, info: dict[str, Any]) -> tuple[float, bool, bool]:
        """Reward, terminated, truncated."""
        return min(info["coverage"] / SUCCESS_COVERAGE, 1.0), info["is_success"], False

    def _info(self) -> dict[str, Any]:
        info = self._block_info()
        info["is_success"] = info["coverage"] > SUCCESS_COVERAGE
        info["goal"] = np.array(self.goal_pose) if self._goal_image is None else self._goal_image.copy()
        return info

    def _make_observation_space(self) -> spaces.Space[Any]:
        if self.obs_type == "state":
            return spaces.Box(STATE_LOW[:5], STATE_HIGH[:5], dtype=np.float64)
        if self.obs_type == "pixels":
            return self._image_space()
        agent = spaces.Box(0.0, ARENA, (2,), np.float64)
        if self.obs_type == "pixels_agent_pos":
            return spaces.Dict({"pixels": self._image_space(), "agent_pos": agent})
        return spaces.Dict(
            {
                "environment_state": spaces.Box(_CORNER_LOW, _CORNER_HIGH, (16,), np.float64),
                "agent_pos": agent,
            }
        )

    def _observe(self) -> Any:
        simulation = self.simulation
        if self.obs_type == "state":
            return self._state_numbers()[:5]
        if self.obs_type == "environment_state_agent_pos":
            return {"environment_state": corners(simulation.block_pose), "agent_pos": self._agent_position()}
        image = self._draw_observation()
        if self.obs_type == "pixels":
            return image
        return {"pixels": image, "agent_pos": self._agent_position()}

    def _draw_observation(self) -> Image:
        assert self._renderer is not None
        simulation = self.simulation
        return self._renderer.draw((simulation.agent_x, simulation.agent_y), simulation.block_pose, self.goal_pose)

    def _draw_visualization(self, renderer: PushTRenderer) -> Image:
        simulation = self.simulation
        return renderer.draw((simulation.agent_x, simulation.agent_y), simulation.block_pose, self.goal_pose)

    # ------------------------------------------------------------------ shared by the tasks

    @property
    def _sees_pixels(self) -> bool:
        return self.obs_type.startswith("pixels")

    def _image_space(self) -> spaces.Box:
        return spaces.Box(0, 255, (self.resolution, self.resolution, 3), np.uint8)

    def _state_numbers(self) -> Array:
        """The state [7] as observations give it: angle in [0, 2 pi], within `STATE_LOW` and `STATE_HIGH`."""
        state = self.simulation.get_state()
        state[4] %= 2 * math.pi
        return np.minimum(np.maximum(state, STATE_LOW), STATE_HIGH)

    def _agent_position(self) -> Array:
        simulation = self.simulation
        return np.array([min(max(simulation.agent_x, 0.0), ARENA), min(max(simulation.agent_y, 0.0), ARENA)])

    def _block_info(self) -> dict[str, Any]:
        simulation, goal = self.simulation, self.goal_pose
        return {
            "coverage": coverage(simulation.block_pose, goal),
            "block_error": math.hypot(simulation.block_x - goal[0], simulation.block_y - goal[1]),
            "angle_error": abs(math.remainder(simulation.block_angle - goal[2], math.tau)),
            "n_agent_block_contacts": simulation.agent_block_contacts,
            "n_block_wall_contacts": simulation.block_wall_contacts,
            "state": simulation.get_state(),
        }

    def _to_target(self, action: Any) -> tuple[float, float]:
        """The absolute target [px] of an action."""
        x, y = as_action(action, self.action_space)
        if self.control == "relative":
            # Held inside the arena, or an agent could walk away through the walls for ever.
            x = self.simulation.agent_x + RELATIVE_REACH * min(max(x, -1.0), 1.0)
            y = self.simulation.agent_y + RELATIVE_REACH * min(max(y, -1.0), 1.0)
        return min(max(x, 0.0), ARENA), min(max(y, 0.0), ARENA)

    def _to_action(self, x: float, y: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The action whose target is nearest to (x, y) [px]."""
        if self.control == "absolute":
            return np.array([min(max(x, 0.0), ARENA), min(max(y, 0.0), ARENA)], dtype=np.float32)
        dx = (x - self.simulation.agent_x) / RELATIVE_REACH
        dy = (y - self.simulation.agent_y) / RELATIVE_REACH
        return np.array([min(max(dx, -1.0), 1.0), min(max(dy, -1.0), 1.0)], dtype=np.float32)

    def _check_options(self, options: dict[str, Any] | None) -> tuple[Array | None, Array | None]:
        state, goal = options_of(options)
        return (
            None if state is None else check_state("state", state, 0.0, ARENA),
            None if goal is None else self._check_goal(goal),
        )


def beside_bar(pose: Pose) -> tuple[float, float]:
    """Where goal pictures show the agent: 40 px off the middle of the bar's top edge, where a final push would end."""
    x, y, angle = pose
    return (
        min(max(x + 40.0 * math.sin(angle), 0.0), ARENA),
        min(max(y - 40.0 * math.cos(angle), 0.0), ARENA),
    )


def corners(pose: Pose) -> Array:
    """The T's corners [16] as x0, y0, x1, y1, ..., within the declared space."""
    return np.clip(keypoints(pose).ravel(), _CORNER_LOW, _CORNER_HIGH)


def block_of(state: Array) -> Pose:
    """The block pose within a state of 5 or 7 numbers."""
    return float(state[2]), float(state[3]), float(state[4])
