"""Goals for environments that have none: where random actions lead from the same start."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from grasp_agent.rollouts.rendered import check_renders, square

SIDE = 64
"""Height and width of the pictures that are compared."""

ATTEMPTS = 10
"""Walks that are tried for one that ends elsewhere than it began."""


class HindsightGoal(gym.Wrapper[Any, Any, Any, Any]):
    """Shows in `info["goal"]` of `reset` an observation that can be reached, and tells success in `info["is_success"]`.

    At the reset random actions, each held for a few steps, are played for `steps` steps. The last observation is the
    goal. Then the environment is reset to the same start. With p the rendered picture, a step is a success if

        mean |p - p_goal| <= share * mean |p_start - p_goal|.

    Args:
        env: an environment that renders arrays, and whose reset is determined by the seed.
        steps: to the goal.
        share: of the start's difference from the goal that may be left; for things that move over a still background,
            a quarter means that they cover most of their goals.
        hold: steps that each random action is held for.

    Raises:
        ValueError: the environment renders no arrays, or a number is out of its range. By `reset`: the same seed leads
            to another start, or random actions change nothing in view.
    """

    def __init__(self, env: gym.Env[Any, Any], steps: int, share: float = 0.25, hold: int = 5) -> None:
        super().__init__(env)
        check_renders(env)
        for name, number in (("steps", steps), ("hold", hold)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"hindsight {name}: expected a whole number of at least 1, got {number!r}")
        if not 0 < share < 1:
            raise ValueError(f"hindsight share: expected a number between 0 and 1, got {share}")
        self.steps, self.share, self.hold = steps, share, hold

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        goal = self._find(seed, options)
        self._near = self.share * _difference(self._start, self._goal)
        observation, info = self.env.reset(seed=seed, options=options)
        if not np.array_equal(self._picture(), self._start):
            raise ValueError(
                f"{self.env}: expected a reset that the seed determines, got another start from seed {seed}"
            )
        return observation, {**info, "goal": goal, "is_success": False}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        solved = _difference(self._picture(), self._goal) <= self._near
        return observation, reward, terminated, truncated, {**info, "is_success": solved}

    def _find(self, seed: int, options: dict[str, Any] | None) -> Any:
        """Walk to a goal that differs from the start; keep the pictures of both, return the goal's observation."""
        for attempt in range(ATTEMPTS):
            draws = np.random.default_rng([seed, attempt])
            goal, _ = self.env.reset(seed=seed, options=options)
            self._start = self._goal = self._picture()
            self.env.action_space.seed(int(draws.integers(2**31)))
            for step in range(self.steps):
                if step % self.hold == 0:
                    action = self.env.action_space.sample()
                observation, _, terminated, truncated, _ = self.env.step(action)
                if terminated or truncated:
                    break  # a goal that cannot be stayed at would be none
                goal, self._goal = observation, self._picture()
            if not np.array_equal(self._start, self._goal):
                return goal
        raise ValueError(
            f"{self.env}: expected random actions to change what is in view, got the start again after {self.steps}"
            f" steps, {ATTEMPTS} times; try more steps"
        )

    def _picture(self) -> NDArray[np.uint8]:
        return square(self.env.render(), SIDE)


def _difference(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(picture.astype(np.float64) - other).mean())
