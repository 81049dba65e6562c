"""The Push-T of the package gym-pusht, with the actions, pictures and goal picture of this package's Push-T."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import PIL.Image
from gymnasium import spaces

from grasp_envs.canvas import Image
from grasp_envs.pusht import RELATIVE_REACH, beside_bar
from grasp_envs.pusht_simulation import ARENA, Array
from grasp_envs.validation import as_action, check_choice, check_pixels, check_seed

OBS_TYPES = ("pixels", "pixels_agent_pos")


class GymPushTEnv(gym.Wrapper[Any, Any, Any, Any]):
    """gym-pusht's `gym_pusht/PushT-v0`, shown and acted in as `grasp_envs/PushT-v0` is.

    ## Description

    A round agent pushes a T-shaped block onto a fixed goal pose, drawn in green. Physics, drawing, reward and success
    are gym-pusht's own: this class only translates what goes in and what comes out. It needs
    `pip install gym-pusht "pymunk<7"`.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: a target relative to the agent, in units of 100 px. gym-pusht wants the target itself.
    It is the place of the agent in the latest observation + 100 a, held inside the arena.

    ## Observation Space

    By `obs_type`:

    - `"pixels"`: `Box(0, 255, (resolution, resolution, 3), uint8)`; gym-pusht's picture of 512 px, averaged down.
    - `"pixels_agent_pos"`: `Dict` of `pixels` and of `agent_pos`, `Box(0, 512, (2,), float64)` [px].

    `info` is gym-pusht's, with `is_success` and, after each step, `coverage`. `info["goal"]` is a picture with the
    block on its target and the agent next to the middle of its bar. A second world of gym-pusht, in which the block
    was put there, draws it.

    ## Rewards

    coverage / 0.95, at most 1, where coverage is the share of the target that the block covers.

    ## Starting State

    gym-pusht's: the agent uniform on the integers 50..449 in x and y, the block on 100..399, its angle uniform in
    [-pi, pi). `reset(options={"reset_to_state": [agent x, y, block x, y, angle]})` is passed on. gym-pusht turns the
    block about its centre of mass after it has placed it, so it stands elsewhere than asked.

    ## Episode End

    Termination at coverage > 0.95; truncation after 300 steps (by `gymnasium.make`).

    ## Arguments

    - `obs_type`: one of the above; default `"pixels"`.
    - `resolution`: side of pictures in pixels; default 96.
    - `render_mode`: `"rgb_array"`; `None` is the same.
    - `visualization_size`: side of `render()`'s image in pixels; default 512.

    Raises:
        ValueError: an argument is out of its range.
        gymnasium.error.DependencyNotInstalled: gym-pusht is not there, or pymunk is newer than it understands.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "pixels",
        resolution: int = 96,
        render_mode: str | None = "rgb_array",
        visualization_size: int = 512,
    ) -> None:
        check_choice("obs_type", obs_type, OBS_TYPES)
        check_choice("render_mode", render_mode or "rgb_array", tuple(self.metadata["render_modes"]))
        self.obs_type = obs_type
        self.resolution = check_pixels("resolution", resolution, usual=96)
        size = check_pixels("visualization_size", visualization_size, usual=512)
        world = _world()
        side = int(ARENA)  # its pictures are drawn at this size; to make them smaller, it leaves pixels out
        arguments = {
            "obs_type": "pixels_agent_pos",
            "render_mode": "rgb_array",
            "observation_width": side,
            "observation_height": side,
            "visualization_width": size,
            "visualization_height": size,
        }
        super().__init__(world(**arguments))
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        picture = spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        place = spaces.Box(0.0, ARENA, (2,), np.float64)
        self.observation_space = (
            picture if obs_type == "pixels" else spaces.Dict({"pixels": picture, "agent_pos": place})
        )
        self._goal_image = self._small(_at_the_goal(world(**arguments)))
        self._agent: Array = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class docstring for `options`.

        Raises:
            ValueError: a seed below 0.
        """
        observation, info = self.env.reset(seed=check_seed(seed), options=options)
        return self._observe(observation), self._told(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drive the agent towards the action's target for 0.1 s.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        relative = np.clip(as_action(action, self.action_space), -1.0, 1.0)
        target = np.clip(self._agent + RELATIVE_REACH * relative, 0.0, ARENA)
        observation, reward, terminated, truncated, info = self.env.step(target)
        return self._observe(observation), float(reward), bool(terminated), bool(truncated), self._told(info)

    def _observe(self, observation: dict[str, Any]) -> Any:
        """What gym-pusht shows, as this environment shows it; also where actions count from."""
        self._agent = np.clip(np.asarray(observation["agent_pos"], np.float64), 0.0, ARENA)
        picture = self._small(observation["pixels"])
        return picture if self.obs_type == "pixels" else {"pixels": picture, "agent_pos": self._agent.copy()}

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        # Some versions hand out the same array in every info.
        told = copy.deepcopy(info)
        return {**told, "is_success": bool(info["is_success"]), "goal": self._goal_image.copy()}

    def _small(self, picture: Image) -> Image:
        side = (self.resolution, self.resolution)
        return np.array(PIL.Image.fromarray(picture).resize(side, PIL.Image.Resampling.BOX))


def _world() -> Any:
    """gym-pusht's class, if it can work here."""
    advice = 'try `pip install gym-pusht "pymunk<7"`, or play grasp_envs/PushT-v0, which is the same task'
    try:
        world = importlib.import_module("gym_pusht.envs").PushTEnv
    except ModuleNotFoundError as error:
        raise gym.error.DependencyNotInstalled(
            f"expected the package gym-pusht, got none ({error}); {advice}"
        ) from None
    pymunk = importlib.import_module("pymunk")
    if not hasattr(pymunk.Space, "add_collision_handler"):
        raise gym.error.DependencyNotInstalled(
            f"expected pymunk below 7, which gym-pusht is written for, got pymunk {pymunk.version}; {advice}"
        )
    return world


def _at_the_goal(world: Any) -> Image:
    """What gym-pusht's world looks like with the block on its target and the agent beside the block."""
    _, info = world.reset(seed=0)
    x, y, angle = map(float, info["goal_pose"])
    agent = beside_bar((x, y, angle))
    # It turns the block about its centre of mass after it has placed it. How far that takes it is seen once.
    _, info = world.reset(seed=0, options={"reset_to_state": [*agent, x, y, angle]})
    moved_x, moved_y = info["block_pose"][:2] - (x, y)
    observation, _ = world.reset(seed=0, options={"reset_to_state": [*agent, x - moved_x, y - moved_y, angle]})
    world.close()
    return np.asarray(observation["pixels"])
