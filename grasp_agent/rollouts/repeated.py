"""Frame skip: each action lasts for several steps of the environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from grasp_agent.core.checks import shown
from grasp_agent.tasks.task import SUCCESSES

MOST = 1000
"""Of steps: more would look as if the environment hung."""


class RepeatAction(gym.Wrapper[Any, Any, Any, Any]):
    """Plays each action for `steps` steps, or until the episode ends, and shows what comes last.

    Rewards are added up. A time limit inside counts the environment's own steps. If a step in between is a success, so
    is the whole, under "is_success" and "success" in `info`.

    Args:
        env: the environment.
        steps: how often.

    Raises:
        TypeError: `steps` is no whole number.
        ValueError: it is out of range.
    """

    def __init__(self, env: gym.Env[Any, Any], steps: int) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"repeat_action: expected a whole number of steps, got {shown(steps)}")
        if not 1 <= steps <= MOST:
            raise ValueError(f"repeat_action: expected 1 to {MOST} steps, got {steps}; try 4")
        super().__init__(env)
        self.steps = steps

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play the action; see the class."""
        total = 0.0
        solved: dict[str, Any] = {}
        for _ in range(self.steps):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            solved = {key: info[key] or solved.get(key, False) for key in SUCCESSES if key in info}
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, **solved}
