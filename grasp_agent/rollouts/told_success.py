"""Success as the user tells it: under another name in `info`, or by a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from grasp_agent.core.by_name import by_name, called
from grasp_agent.core.checks import shown


class ToldSuccess(gym.Wrapper[Any, Any, Any, Any], ABC):
    """Tells success in `info["is_success"]` of each step. Goals that are given do not tell it otherwise."""

    @abstractmethod
    def solved(self, observation: Any, info: dict[str, Any]) -> bool:
        """Whether a step is a success."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play the action; see the class."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "is_success": self.solved(observation, info)}


class NamedSuccess(ToldSuccess):
    """Success is what the environment tells under a name of its own.

    Args:
        env: the environment.
        key: that name.

    Raises:
        TypeError: `key` is no string.
        ValueError: by `step`, if the environment does not tell it.
    """

    def __init__(self, env: gym.Env[Any, Any], key: str) -> None:
        if not isinstance(key, str):
            raise TypeError(f"success_key: expected the name of an entry of info, got {shown(key)}")
        super().__init__(env)
        self.key = key

    def solved(self, observation: Any, info: dict[str, Any]) -> bool:
        if self.key not in info:
            known = ", ".join(map(repr, info)) or "nothing"
            raise ValueError(f"success_key: expected {self.key!r} in the info of a step, got {known}")
        return bool(info[self.key])


class SuccessFunction(ToldSuccess):
    """Success is what a function of the user's says after each step.

    Args:
        env: the environment, with observations of its own.
        name: "module:function"; called as `function(env, observation, info)`, it returns True or False.

    Raises:
        ValueError: no such function. By `step`, if it fails or returns something else.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.what = f"success function {name}"
        self.function = by_name("success function", name)

    def solved(self, observation: Any, info: dict[str, Any]) -> bool:
        solved = called(self.what, self.function, self.env, observation, info)
        if not isinstance(solved, bool | np.bool_):
            raise ValueError(f"{self.what}: expected it to return True or False, got {shown(solved)}")
        return bool(solved)


def told_success(env: gym.Env[Any, Any]) -> ToldSuccess | None:
    """The wrapper of an environment in which the user tells success, if there is one."""
    while isinstance(env, gym.Wrapper) and not isinstance(env, ToldSuccess):
        env = env.env
    return env if isinstance(env, ToldSuccess) else None
