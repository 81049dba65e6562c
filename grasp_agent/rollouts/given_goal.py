"""Goals that environments do not set themselves, and whose success is told by comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.agent.observations import ACHIEVED_KEY, GOAL_KEYS, IMAGE_KEYS, vector_in
from grasp_agent.core.by_name import called
from grasp_agent.core.checks import shown
from grasp_agent.rollouts.rendered import image_side, square
from grasp_agent.rollouts.told_success import told_success

Array = NDArray[Any]

MOST_PIXELS = 50_000_000
"""Of a file: more would take hundreds of megabytes."""


class GivenGoal(gym.Wrapper[Any, Any, Any, Any], ABC):
    """Shows another goal than the environment's own, and tells success in `info["is_success"]`.

    The goal is in `info["goal"]` of `reset`, and in the observations, where these show one. With p what is compared, a
    picture or a vector, a step is a success if

        mean |p - p_goal| <= share * mean |p_start - p_goal|,

    unless the user tells success (`ToldSuccess`).

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
            raise ValueError(f"goal, share: expected a number between 0 and 1, got {share}")
        self.share = share
        self._told = told_success(env) is not None

    @abstractmethod
    def seen(self, observation: Any) -> Array:
        """What is compared, p, of where the environment is now."""

    def pursue(self, goal: Any, start: Array, target: Array) -> None:
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
        if not self._told:
            info = {**info, "is_success": difference(self.seen(observation), self._target) <= self._near}
        return self._showing(observation), reward, terminated, truncated, info

    def _showing(self, observation: Any) -> Any:
        """The observation with this goal in place of the environment's own."""
        if not isinstance(observation, Mapping):
            return observation
        return {key: self._goal if key in GOAL_KEYS else value for key, value in observation.items()}


class GoalFunction(GivenGoal):
    """The goal of each episode is what a function of the user's returns. Observations are compared.

    Before an episode begins, the function is called as `function(env, seed)`. It may reset the environment, set its
    state and step it: afterwards the environment is reset with the seed. It must return the same for the same seed.

    Args:
        env: the environment as it is shown to whoever plays.
        function: returns a goal: an observation, or the part of one that goals are about: a picture uint8 [n, n, 3] or
            a vector. A picture of another size is averaged down.
        what: the function is called in error messages.
        share: as for `GivenGoal`.

    Raises:
        ValueError: a number out of range. By `reset`: the function fails, its goal has not the form of the
            observations, or the episode begins at the goal.
    """

    advice = "what env.reset or env.step returns"
    """What to try where a goal has not the form of the observations."""

    def __init__(
        self, env: gym.Env[Any, Any], function: Callable[[Any, int], Any], what: str, share: float = 0.25
    ) -> None:
        super().__init__(env, share)
        self.function, self.what = function, what

    def seen(self, observation: Any) -> Array:
        if isinstance(observation, Mapping) and image_side(self.env.observation_space) is not None:
            return np.asarray(next((observation[key] for key in IMAGE_KEYS if key in observation), None))
        return np.asarray(_as_goal(observation))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed = drawn_seed() if seed is None else seed
        goal, observation, info = self.try_out(seed, options)
        start = self.seen(observation)
        if np.array_equal(start, goal):
            raise ValueError(f"{self.what}: expected a goal to be reached, got the start of seed {seed}")
        self.pursue(goal, start, goal)
        return self.begin(observation, info)

    def try_out(self, seed: int, options: dict[str, Any] | None = None) -> tuple[Array, Any, dict[str, Any]]:
        """Reset to the episode of a seed -> its goal, in the form of `seen`, and what the environment returned.

        Raises:
            ValueError: as `reset`.
        """
        given = called(self.what, self.function, self.env, seed)
        observation, info = self.env.reset(seed=seed, options=options)
        form = self.seen(observation)
        try:
            goal = self.seen(given)
        except (ValueError, TypeError, RuntimeError):  # ragged lists, tensors elsewhere, other dictionaries
            goal = np.asarray(None)
        if form.dtype == goal.dtype == np.uint8 and goal.shape[2:] == form.shape[2:] == (3,) and goal.size:
            goal = square(goal, len(form))
        same_kind = goal.dtype == form.dtype if form.dtype == np.uint8 else goal.dtype.kind in "fiub"
        if not (same_kind and goal.shape == form.shape and np.isfinite(goal).all()):
            raise ValueError(
                f"{self.what}: expected a goal in the form of the observations, {_form(form)}, got {_named(given)};"
                f" try {self.advice}"
            )
        return goal.astype(form.dtype), observation, info


class GoalImage(GoalFunction):
    """The goal is the picture in a file, in every episode. Observations are compared.

    Args:
        env: an environment whose observations hold a picture.
        path: a picture as the environment would show it; of another size, it is averaged down.
        share: as for `GivenGoal`.

    Raises:
        ValueError: no such picture, or as `GoalFunction`.
    """

    advice = "a world model that sees pictures"

    def __init__(self, env: gym.Env[Any, Any], path: str | Path, share: float = 0.25) -> None:
        try:
            with Image.open(path) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ValueError(f"a picture of {file.width} x {file.height}, which is too large")
                picture = np.asarray(file.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            raise ValueError(f"goal image {path}: expected a picture (PNG, JPEG or the like), got {reason}") from None
        super().__init__(env, lambda env, seed: picture, f"goal image {path}", share)


def drawn_seed() -> int:
    """A seed for an episode that is given none."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def difference(one: Array, other: Array) -> float:
    """Mean absolute difference."""
    return float(np.abs(one.astype(np.float64) - other).mean())


def _form(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _named(given: Any) -> str:
    """What came in place of a goal: the form of an array, the keys of a dictionary, else the value."""
    if isinstance(given, np.ndarray):
        return _form(given) + " with NaN or infinity" * (given.dtype.kind == "f" and not np.isfinite(given).all())
    return f"a dictionary with {', '.join(map(repr, given))}" if isinstance(given, Mapping) else shown(given)


def _as_goal(observation: Any) -> Any:
    """What of an observation is a goal: the achieved one, the picture, or all vectors side by side."""
    if not isinstance(observation, Mapping):
        return observation
    for key in (ACHIEVED_KEY, *IMAGE_KEYS):
        if key in observation:
            return observation[key]
    return vector_in(observation)[0]
