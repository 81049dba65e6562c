"""Goals that environments do not set themselves, and whose success is told by pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.agent.observations import ACHIEVED_KEY, GOAL_KEYS, IMAGE_KEYS, vector_in
from grasp_agent.rollouts.rendered import image_side, square

Picture = NDArray[np.uint8]

MOST_PIXELS = 50_000_000
"""Of a file: more would take hundreds of megabytes."""


class PictureGoal(gym.Wrapper[Any, Any, Any, Any], ABC):
    """Shows another goal than the environment's own, and tells success in `info["is_success"]`.

    The goal is in `info["goal"]` of `reset`, and in the observations, where these show one. With p the picture, a step
    is a success if

        mean |p - p_goal| <= share * mean |p_start - p_goal|.

    Args:
        env: the environment.
        share: of the start's difference from the goal that may be left; for things that move over a still background,
            a quarter means that they cover most of their goals.

    Raises:
        ValueError: the share is out of its range.
    """

    def __init__(self, env: gym.Env[Any, Any], share: float = 0.25) -> None:
        super().__init__(env)
        if not 0 < share < 1:
            raise ValueError(f"goal picture, share: expected a number between 0 and 1, got {share}")
        self.share = share

    @abstractmethod
    def picture(self, observation: Any) -> Picture:
        """The picture p of where the environment is now."""

    def pursue(self, goal: Any, start: Picture, target: Picture) -> None:
        """Take a goal for the episode that begins.

        Args:
            goal: in the form of observations, or a picture for observations that hold one.
            start: p_start.
            target: p_goal.
        """
        self._goal, self._target = _as_goal(goal), target
        self._near = self.share * difference(start, target)

    def begin(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What `reset` returns."""
        return self._showing(observation), {**info, "goal": self._goal, "is_success": False}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        solved = difference(self.picture(observation), self._target) <= self._near
        return self._showing(observation), reward, terminated, truncated, {**info, "is_success": solved}

    def _showing(self, observation: Any) -> Any:
        """The observation with this goal in place of the environment's own."""
        if not isinstance(observation, Mapping):
            return observation
        return {key: self._goal if key in GOAL_KEYS else value for key, value in observation.items()}


class GoalImage(PictureGoal):
    """The goal is the picture in a file, in every episode. Pictures that are compared are the observations'.

    Args:
        env: an environment whose observations hold a picture.
        path: a picture as the environment would show it; of another size, it is averaged down.
        share: as for `PictureGoal`.

    Raises:
        ValueError: no such picture, or a number out of range. By `reset`: observations hold no picture, or the episode
            begins at the goal.
    """

    def __init__(self, env: gym.Env[Any, Any], path: str | Path, share: float = 0.25) -> None:
        super().__init__(env, share)
        self.path = path
        try:
            with Image.open(path) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ValueError(f"a picture of {file.width} x {file.height}, which is too large")
                self._file = np.asarray(file.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            raise ValueError(f"goal image {path}: expected a picture (PNG, JPEG or the like), got {reason}") from None

    def picture(self, observation: Any) -> Picture:
        shown = observation
        if isinstance(observation, Mapping):
            shown = next((observation[key] for key in IMAGE_KEYS if key in observation), None)
        return np.asarray(shown)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        side = image_side(self.env.observation_space)
        if side is None:
            raise ValueError(
                f"{self.env}: expected observations with a picture to compare {self.path} with, got"
                f" {self.env.observation_space}"
            )
        observation, info = self.env.reset(seed=seed, options=options)
        start, goal = self.picture(observation), square(self._file, side)
        if np.array_equal(start, goal):
            raise ValueError(f"goal image {self.path}: expected a goal to be reached, got the start of seed {seed}")
        self.pursue(goal, start, goal)
        return self.begin(observation, info)


def difference(picture: Picture, other: Picture) -> float:
    """Mean absolute difference."""
    return float(np.abs(picture.astype(np.float64) - other).mean())


def _as_goal(observation: Any) -> Any:
    """What of an observation is a goal: the achieved one, the picture, or all vectors side by side."""
    if not isinstance(observation, Mapping):
        return observation
    for key in (ACHIEVED_KEY, *IMAGE_KEYS):
        if key in observation:
            return observation[key]
    return vector_in(observation)[0]
