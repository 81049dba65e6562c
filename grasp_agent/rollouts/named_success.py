"""Success under another name in `info`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from grasp_agent.core.checks import shown


class NamedSuccess(gym.Wrapper[Any, Any, Any, Any]):
    """Tells under `info["is_success"]` what the environment tells under a name of its own.

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

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play the action; see the class."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.key not in info:
            known = ", ".join(map(repr, info)) or "nothing"
            raise ValueError(f"success_key: expected {self.key!r} in the info of a step, got {known}")
        return observation, reward, terminated, truncated, {**info, "is_success": bool(info[self.key])}
