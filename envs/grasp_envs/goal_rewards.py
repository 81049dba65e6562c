"""How a goal environment offers its reward to hindsight experience replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class GoalRewards:
    """`compute_reward`, for environments that are goal environments with one kind of observation.

    Attributes:
        obs_type: what is observed.
    """

    obs_type: str

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], Any]:
        """`compute_reward(achieved, desired, info)` for goals [..., N], returning rewards [...] (float64).

        Only with `obs_type="state"`: its presence is how stable-baselines3 recognises a goal environment.
        """
        if self.obs_type != "state":
            raise AttributeError(
                f'compute_reward expected obs_type="state", got {self.obs_type!r}: it has no achieved_goal.'
            )
        return self._compute_reward

    def _compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        """Rewards [...] of goals [..., N] that were reached and that were wanted."""
        raise NotImplementedError
