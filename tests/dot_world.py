"""A dot on a square that moves as told: the smallest task with pixels and goals, and its exact world model.

The dot at p in [-1, 1]^2 moves by 0.2 a. `DotModel` reads p off the picture (its bright blob's centre), so
plans made with it are right up to the rounding of pixels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from grasp_agent.tasks import Task, register_task

SPEED = 0.2
TOLERANCE = 0.15
LIMIT = 15
SIDE = 16
ENV_ID = "tests/Dot-v0"
OBS_TYPES = ("state", "plain", "plain_pixels", "pixels")


def draw(point: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A soft bright blob at `point` on black, uint8 [side, side, 3]."""
    ticks = np.linspace(-1.5, 1.5, side)
    columns, rows = (np.exp(-((ticks - c) ** 2) / (2 * 0.3**2)) for c in point)
    blob = 255 * rows[:, None] * columns[None, :]
    return np.repeat(np.rint(blob).astype(np.uint8)[:, :, None], 3, axis=2)


class DotEnv(gym.Env[Any, Any]):
    """Reach the goal position; observations by `obs_type`.

    "state": {"observation": p, "desired_goal": g}; "pixels": {"pixels", "goal"}, both images; "plain" and
    "plain_pixels": p or its image alone, with the goal in `info["goal"]`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        obs_type: str = "state",
        resolution: int = SIDE,
        render_mode: str | None = None,
        limit: int = LIMIT,
    ) -> None:
        if obs_type not in OBS_TYPES:
            raise ValueError(f"obs_type: expected one of {OBS_TYPES}, got {obs_type!r}")
        self.obs_type, self.side, self.render_mode, self.limit = obs_type, resolution, render_mode, limit
        place = spaces.Box(-1.0, 1.0, (2,), np.float64)
        image = spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        self.observation_space: Any = {
            "state": spaces.Dict({"observation": place, "desired_goal": place}),
            "pixels": spaces.Dict({"pixels": image, "goal": image}),
            "plain": place,
            "plain_pixels": image,
        }[obs_type]
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.point, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        while self._distance() < 2 * TOLERANCE:
            self.point, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        self.steps = 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action)), f"{action!r} is outside of {self.action_space}"
        self.point = np.clip(self.point + SPEED * np.asarray(action, np.float64), -1, 1)
        self.steps += 1
        return self._observe(), -self._distance(), False, self.steps >= self.limit, self._info()

    def render(self) -> np.ndarray:
        return np.maximum(draw(self.point, 32), draw(self.goal, 32) // 3)

    def make_expert(self, seed: int, goal: str | None = None) -> DotExpert:
        return DotExpert(self)

    def _distance(self) -> float:
        return float(np.linalg.norm(self.point - self.goal))

    def _observe(self) -> Any:
        if self.obs_type == "state":
            return {"observation": self.point.copy(), "desired_goal": self.goal.copy()}
        if self.obs_type == "pixels":
            return {"pixels": draw(self.point, self.side), "goal": draw(self.goal, self.side)}
        return self.point.copy() if self.obs_type == "plain" else draw(self.point, self.side)

    def _info(self) -> dict[str, Any]:
        solved = self._distance() < TOLERANCE
        goal = draw(self.goal, self.side) if self.obs_type.endswith("pixels") else self.goal.copy()
        return {"is_success": solved, "coverage": float(solved), "state": self.point.copy(), "goal": goal}


class DotExpert:
    def __init__(self, env: DotEnv) -> None:
        self.env = env

    def act(self) -> np.ndarray:
        return np.clip((self.env.goal - self.env.point) / SPEED, -1, 1).astype(np.float32)


class DotModel(nn.Module):
    """The dot's exact dynamics; a latent is p.

    Args:
        history: h; the older frames are asked for and not needed.
        action_block: k.
        pixels: whether observations are images.
    """

    state_shape = (2,)
    action_dim = 2

    def __init__(self, history: int = 1, action_block: int = 1, pixels: bool = True) -> None:
        super().__init__()
        self.history, self.action_block = history, action_block
        self.speed = nn.Parameter(torch.tensor(SPEED))
        if pixels:
            self.image_size = SIDE
        self.encoded = 0
        """Images or vectors encoded so far."""

    def encode(self, obs: Tensor) -> Tensor:
        self.encoded += len(obs)
        if obs.ndim == 2:
            if obs.shape[1] != 2:
                raise RuntimeError(f"shapes cannot be multiplied ({list(obs.shape)} and [2, 2])")
            return obs
        ticks = torch.linspace(-1.5, 1.5, obs.shape[1])
        mass = obs[..., 0].float()
        total = mass.sum((1, 2))
        return torch.stack([(mass.sum(1) @ ticks) / total, (mass.sum(2) @ ticks) / total], dim=1)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        moves = actions[:, -1].reshape(len(actions), self.action_block, self.action_dim)
        return states[:, -1] + self.speed * moves.sum(dim=1)


TASK = Task(
    name="dot",
    env_ids=(ENV_ID,),
    progress_key="coverage",
    picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
    policy_kwargs=tuple({"obs_type": kind} for kind in OBS_TYPES),
)


def register() -> None:
    """Register the environment and its task, once."""
    if ENV_ID not in gym.registry:
        gym.register(ENV_ID, entry_point=DotEnv)
        register_task(TASK)
