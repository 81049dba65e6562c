"""Goals for environments that have none: where random actions lead from the same start."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from grasp_agent.core.checks import whole_number
from grasp_agent.rollouts.given_goal import GivenGoal, drawn_seed
from grasp_agent.rollouts.rendered import check_renders, square

Picture = NDArray[np.uint8]

SIDE = 64
"""Height and width of the pictures that are compared."""

ATTEMPTS = 10
"""Walks that are tried for one that ends elsewhere than it began."""


MOST_STEPS = 10**6
"""To a goal, at most: all are played at each reset."""


class HindsightGoal(GivenGoal):
    """The goal is an observation that can be reached. Pictures that are compared are the rendered ones.

    At the reset random actions, each held for a few steps, are played for `steps` steps. The last observation is the
    goal. Then the environment is reset to the same start.

    Args:
        env: an environment that renders arrays, and whose reset is determined by the seed.
        steps: to the goal.
        share: as for `GivenGoal`.
        hold: steps that each random action is held for.

    Raises:
        TypeError: a number is no whole number.
        ValueError: the environment renders no arrays, or a number is out of its range. By `reset`: the same seed leads
            to another start, or random actions change nothing in view.
    """

    def __init__(self, env: gym.Env[Any, Any], steps: int, share: float = 0.25, hold: int = 5) -> None:
        super().__init__(env, share)
        check_renders(env)
        self.steps = whole_number("hindsight steps", steps, 1, MOST_STEPS)
        self.hold = whole_number("hindsight hold", hold, 1, MOST_STEPS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = drawn_seed()
        goal, start, target = self._find(seed, options)
        observation, info = self.env.reset(seed=seed, options=options)
        if not np.array_equal(self.seen(observation), start):
            raise ValueError(
                f"{self.env}: expected a reset that the seed determines, got another start from seed {seed}"
            )
        self.pursue(goal, start, target)
        return self.begin(observation, info)

    def seen(self, observation: Any) -> Picture:
        return square(self.env.render(), SIDE)

    def _find(self, seed: int, options: dict[str, Any] | None) -> tuple[Any, Picture, Picture]:
        """Walk to a goal that differs from the start -> its observation, and the pictures of start and goal."""
        for attempt in range(ATTEMPTS):
            draws = np.random.default_rng([seed, attempt])
            goal, _ = self.env.reset(seed=seed, options=options)
            start = target = self.seen(goal)
            self.env.action_space.seed(int(draws.integers(2**31)))
            for step in range(self.steps):
                if step % self.hold == 0:
                    action = self.env.action_space.sample()
                observation, _, terminated, truncated, _ = self.env.step(action)
                if terminated or truncated:
                    break  # a goal that cannot be stayed at would be none
                goal, target = observation, self.seen(observation)
            if not np.array_equal(start, target):
                return goal, start, target
        raise ValueError(
            f"{self.env}: expected random actions to change what is in view, got the start again after {self.steps}"
            f" steps, {ATTEMPTS} times; try more steps"
        )
