"""Goal-reaching Push-T: reach a state that lies `goal_horizon` steps ahead on an expert's trajectory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from grasp_envs.canvas import Image
from grasp_envs.goal_rewards import GoalRewards
from grasp_envs.pusht import STATE_HIGH, STATE_LOW, PushTEnv, block_of, corners
from grasp_envs.pusht_checks import check_state
from grasp_envs.pusht_expert import PushTExpert
from grasp_envs.pusht_rendering import PushTRenderer
from grasp_envs.pusht_simulation import ARENA, Array, random_start
from grasp_envs.validation import check_choice, check_integer

REWARD_TYPES = ("sparse", "dense")
SUCCESS_TYPES = ("pose", "strict")
POSITION_TOLERANCE = 20.0
ANGLE_TOLERANCE = math.pi / 9
STRICT_POSITION_TOLERANCE = 10.0
STRICT_ANGLE_TOLERANCE = math.radians(10.0)
STRICT_STEPS = 3
# The longest stretch of expert play before an episode's start.
MAX_WARM_UP = 60

_GOAL_LOW: Array = np.array([*STATE_LOW[:4], -1.0, -1.0])
_GOAL_HIGH: Array = np.array([*STATE_HIGH[:4], 1.0, 1.0])

MOST_STEPS = 10_000
"""Of the expert to the goal: more would look as if they hung."""


class PushTReachEnv(GoalRewards, PushTEnv):
    """Push-T from one state to another, both taken from a trajectory of the scripted expert.

    ## Description

    The goal-reaching task of DINO-WM and the GRASP paper, with the arena and physics of `PushTEnv`: bring
    agent and block to where a scripted expert had them `goal_horizon` steps after the start. The goal can be
    reached in that many steps: the expert's own actions do it.

    ## Action Space

    As in `PushTEnv`.

    ## Observation Space

    Always a `Dict`, by `obs_type` (positions in px, angle in [0, 2 pi], velocity in px/s):

    - `"state"`: `observation` `Box(7)` = agent x, y, block x, y, block angle, agent velocity x, y;
      `achieved_goal` and `desired_goal` `Box(6)` = agent x, y, block x, y, cos and sin of the block angle.
      `compute_reward` is there, so hindsight experience replay runs on it.
    - `"environment_state_agent_pos"`: `environment_state` `Box(16)` and `agent_pos` `Box(2)` as in
      `PushTEnv`, and `goal` `Box(18)`, the same two in that order at the goal.
    - `"pixels"`: `pixels` and `goal`, both `Box(0, 255, (resolution, resolution, 3), uint8)`: agent and block
      as they are and as they shall be. Neither shows anything of the other.
    - `"pixels_agent_pos"`: these two and `agent_pos`.

    `info` is that of `PushTEnv` with `goal_state` (the goal's five state numbers; for evaluation, never for
    an agent) in place of `goal`, and with `agent_error` (px between agent and its goal) and `pose_error` (px,
    norm of the four-vector of agent and block position errors).

    ## Rewards

    `reward_type="sparse"`: 0 on success, else -1. `"dense"`: -(pose_error / 20 px + angle_error / (pi / 9))
    / 10, both errors in units of their tolerance.

    ## Success

    `success="pose"`: pose_error < 20 px and angle_error < pi / 9. `"strict"`: the block alone counts, within 10 px
    and 10 degrees, and must have stayed so for 3 steps in a row; `is_success` is then true from the third step on,
    the sparse reward is 0 in every step within the tolerances.

    ## Starting State

    A legal random state as in `PushTEnv`, then up to 60 steps of the expert: that is the start, the agent
    keeping its velocity; `goal_horizon` steps later is the goal. Starts that already satisfy it are drawn
    again. `reset(options={"state": s, "goal": g})` sets exactly what is asked; each is the 5 state numbers,
    or 7 with the agent's velocity. A state alone gets a goal from the expert, a goal alone gets an ordinary
    start.

    ## Episode End

    Never terminates (staying at the goal is part of the task); truncates after 2 x `goal_horizon` steps.

    ## Arguments

    Those of `PushTEnv`, and:

    - `goal_horizon`: expert steps between start and goal, at least 5; default 25.
    - `reward_type`: `"sparse"` or `"dense"`; default `"sparse"`.
    - `success`: `"pose"` or `"strict"`; default `"pose"`.

    ## Version History

    - v0: first version.
    """

    def __init__(
        self,
        obs_type: str = "state",
        resolution: int = 96,
        control: str = "relative",
        render_mode: str | None = None,
        visualization_size: int = 512,
        goal_horizon: int = 25,
        reward_type: str = "sparse",
        success: str = "pose",
    ) -> None:
        self.goal_horizon = check_integer("goal_horizon", goal_horizon, 5, usual=25, most=MOST_STEPS)
        check_choice("reward_type", reward_type, REWARD_TYPES)
        check_choice("success", success, SUCCESS_TYPES)
        self.reward_type = reward_type
        self.success = success
        super().__init__(obs_type, resolution, control, render_mode, visualization_size)
        self._elapsed = 0
        self._steps_within = 0
        self._set_goal(self.simulation.get_state())

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        errors = self._errors(achieved, desired)
        if self.reward_type == "dense":
            most, widest = self._tolerances
            return -0.1 * (errors[0] / most + errors[1] / widest)
        return self._within(*errors) - 1.0

    @property
    def _tolerances(self) -> tuple[float, float]:
        """Of position [px] and angle [rad]."""
        if self.success == "strict":
            return STRICT_POSITION_TOLERANCE, STRICT_ANGLE_TOLERANCE
        return POSITION_TOLERANCE, ANGLE_TOLERANCE

    def _errors(self, achieved: Any, desired: Any) -> tuple[Any, Any]:
        """The position error [px], of agent and block or of the block alone, and the angle error [rad] that count."""
        pose_error, angle_error = goal_errors(achieved, desired)
        if self.success == "pose":
            return pose_error, angle_error
        a, d = np.asarray(achieved, dtype=np.float64), np.asarray(desired, dtype=np.float64)
        return np.sqrt((a[..., 2] - d[..., 2]) ** 2 + (a[..., 3] - d[..., 3]) ** 2), angle_error

    def _within(self, position: Any, angle: Any) -> Any:
        """Whether errors as from `_errors` are within the tolerances."""
        most, widest = self._tolerances
        return (position < most) & (angle < widest)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As `PushTEnv.step`."""
        self._elapsed += 1
        result = super().step(action)
        if self.success == "strict":
            within = self._within(*self._errors(self._achieved, self._desired))
            self._steps_within = self._steps_within + 1 if within else 0
        return result

    # ------------------------------------------------------------------ the task

    def _begin(self, state: Array | None, goal: Array | None) -> None:
        self._elapsed = 0
        self._steps_within = 0
        if goal is None:
            state, goal = self._draw_episode(state)
        while state is None:
            candidate = self._draw_start()
            state = None if self._is_solved(candidate, goal) else candidate
        self.simulation.set_state(state)
        self._set_goal(goal)

    def _draw_start(self) -> Array:
        """A random legal state after a random stretch of expert play."""
        self.simulation.set_state(random_start(self.np_random))
        self._play(self._new_expert(), int(self.np_random.integers(MAX_WARM_UP + 1)))
        return self.simulation.get_state()

    def _draw_episode(self, state: Array | None) -> tuple[Array, Array]:
        """Start and goal [7] each, `goal_horizon` expert steps apart."""
        for _ in range(1000):
            expert = self._new_expert()
            if state is None:
                self.simulation.set_state(random_start(self.np_random))
                self._play(expert, int(self.np_random.integers(MAX_WARM_UP + 1)))
                start = self.simulation.get_state()
            else:
                start = state
            # From a fresh space, as the episode itself will run: the same actions then reach the goal
            # exactly.
            self.simulation.set_state(start)
            self._play(expert, self.goal_horizon)
            goal = self.simulation.get_state()
            if not self._is_solved(start, goal):
                return start, goal
        raise RuntimeError(
            f"expected the expert to leave the start within {self.goal_horizon} steps, but it never did: "
            "try a longer goal_horizon or another state."
        )

    def _new_expert(self) -> PushTExpert:
        return self.make_expert(int(self.np_random.integers(2**62)))

    def _play(self, expert: PushTExpert, steps: int) -> None:
        for _ in range(steps):
            # By way of an action, whose float32 rounding the episode will meet too.
            self.simulation.step(*self._to_target(expert.act()))

    def _is_solved(self, state: Array, goal: Array) -> bool:
        return bool(self._within(*self._errors(_goal_numbers(state), _goal_numbers(goal))))

    def _check_goal(self, goal: Any) -> Array:
        return check_state("goal", goal, 0.0, ARENA)

    def _set_goal(self, goal: Array) -> None:
        self._goal_state = goal
        self.goal_pose = block_of(goal)
        self._desired = _goal_numbers(goal)
        if self._renderer is not None:
            self._goal_image = self._renderer.draw(self._goal_agent, self.goal_pose)

    @property
    def _achieved(self) -> Array:
        return _goal_numbers(self.simulation.get_state())

    @property
    def _goal_agent(self) -> tuple[float, float]:
        return float(self._goal_state[0]), float(self._goal_state[1])

    def _task_goal(self) -> list[float]:
        return [float(value) for value in self._goal_state[:5]]

    def _outcome(self, info: dict[str, Any]) -> tuple[float, bool, bool]:
        reward = self._compute_reward(_goal_numbers(info["state"]), self._desired, info)
        return float(reward), False, self._elapsed >= 2 * self.goal_horizon

    def _info(self) -> dict[str, Any]:
        info = self._block_info()
        pose_error, angle_error = goal_errors(self._achieved, self._desired)
        simulation, goal = self.simulation, self._goal_agent
        info["angle_error"] = float(angle_error)
        info["pose_error"] = float(pose_error)
        info["agent_error"] = math.hypot(simulation.agent_x - goal[0], simulation.agent_y - goal[1])
        if self.success == "pose":
            info["is_success"] = bool(self._within(pose_error, angle_error))
        else:
            within = self._within(*self._errors(self._achieved, self._desired))
            info["is_success"] = bool(within) and self._steps_within + 1 >= STRICT_STEPS
        info["goal_state"] = self._goal_state[:5].copy()
        return info

    def _make_observation_space(self) -> spaces.Space[Any]:
        if self.obs_type == "state":
            observation = spaces.Box(STATE_LOW, STATE_HIGH, dtype=np.float64)
            achieved = spaces.Box(_GOAL_LOW, _GOAL_HIGH, dtype=np.float64)
            return spaces.Dict({"observation": observation, "achieved_goal": achieved, "desired_goal": achieved})
        if self.obs_type == "pixels":
            return spaces.Dict({"pixels": self._image_space(), "goal": self._image_space()})
        base = super()._make_observation_space()
        assert isinstance(base, spaces.Dict)
        goal: spaces.Space[Any] = self._image_space()
        if self.obs_type == "environment_state_agent_pos":
            corner, agent = base["environment_state"], base["agent_pos"]
            assert isinstance(corner, spaces.Box) and isinstance(agent, spaces.Box)
            goal = spaces.Box(
                np.concatenate([corner.low, agent.low]),
                np.concatenate([corner.high, agent.high]),
                dtype=np.float64,
            )
        return spaces.Dict({**base.spaces, "goal": goal})

    def _observe(self) -> Any:
        if self.obs_type == "state":
            observation = self._state_numbers()
            return {
                "observation": observation,
                "achieved_goal": _goal_numbers(self.simulation.get_state()),
                "desired_goal": self._desired.copy(),
            }
        if self.obs_type == "environment_state_agent_pos":
            goal = np.concatenate([corners(self.goal_pose), np.clip(self._goal_state[:2], 0.0, ARENA)])
            return {**super()._observe(), "goal": goal}
        assert self._goal_image is not None
        if self.obs_type == "pixels":
            return {"pixels": self._draw_observation(), "goal": self._goal_image.copy()}
        return {**super()._observe(), "goal": self._goal_image.copy()}

    def _draw_observation(self) -> Image:
        assert self._renderer is not None
        simulation = self.simulation
        return self._renderer.draw((simulation.agent_x, simulation.agent_y), simulation.block_pose)

    def _draw_visualization(self, renderer: PushTRenderer) -> Image:
        simulation = self.simulation
        agent = (simulation.agent_x, simulation.agent_y)
        return renderer.draw(agent, simulation.block_pose, self.goal_pose, self._goal_agent)


def goal_errors(achieved: Any, desired: Any) -> tuple[Any, Any]:
    """Pose error [px] and angle error [rad] between goals [..., 6], each of shape [...].

    The pose error is the norm over agent and block position (four numbers), the angle error lies in [0, pi].
    """
    a, d = np.asarray(achieved, dtype=np.float64), np.asarray(desired, dtype=np.float64)
    squares = (a[..., :4] - d[..., :4]) ** 2
    # Summed one by one: a reduction may order its terms differently for one goal and for many.
    pose_error = np.sqrt(squares[..., 0] + squares[..., 1] + squares[..., 2] + squares[..., 3])
    cross = a[..., 4] * d[..., 5] - a[..., 5] * d[..., 4]
    dot = a[..., 4] * d[..., 4] + a[..., 5] * d[..., 5]
    return pose_error, np.abs(np.arctan2(cross, dot))


def _goal_numbers(state: Array) -> Array:
    """Agent x, y, block x, y, cos and sin of the block angle [6], within the declared space, from a state."""
    angle = float(state[4])
    numbers: Array = np.array([state[0], state[1], state[2], state[3], math.cos(angle), math.sin(angle)])
    return np.minimum(np.maximum(numbers, _GOAL_LOW), _GOAL_HIGH)
