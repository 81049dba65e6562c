"""What a plan earns, as the world model foresees it: for tasks that reward instead of showing a goal.

With r_t the reward and c_t the chance to go on that the model foresees for step t, and V the value after the plan,

    return = sum_{t=1..T} gamma^(t-1) (c_1 ... c_{t-1}) r_t  +  gamma^T (c_1 ... c_T) V(s_T),      cost = - return.

The value after a short plan is how TD-MPC looks far ahead (Hansen et al., arXiv 2203.04955). Models tell outcomes from
the last h states. The first h - 1 rewards of a plan are left out: the states before it, which they also need, are not
known here. They hardly differ between plans.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.capabilities import Rewarding, foresees_rewards
from grasp_agent.core.checks import at_least


@dataclass(frozen=True, eq=False)
class Rewards:
    """Minus the return that a world model foresees.

    Attributes:
        model: foresees rewards.
        terminal: weight of the value after the plan; 0 leaves it out.

    Raises:
        TypeError: the model foresees no rewards.
        ValueError: the weight is out of range.
    """

    model: Rewarding
    terminal: float = 1.0
    goalless = True

    def __post_init__(self) -> None:
        if not foresees_rewards(self.model):
            raise TypeError(
                f"Rewards.model: expected a world model that foresees rewards, got {type(self.model).__name__}, which"
                " does not; train it on data with rewards"
            )
        at_least(self, 0, "terminal")

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        """Minus the value of standing still in `states` [N, *S] -> [N]; the goal is not looked at."""
        return -self.model.value(torch.stack([states] * self.model.history, 1))

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Minus the return of `states` [N, T, *S] reached by `actions` [N, T, A] -> [N]; the goal is not looked at."""
        first = min(self.model.history, states.shape[1]) - 1  # step before which no reward is told
        ahead = torch.cat([states[:, :1]] * (self.model.history - 1 - first) + [states], 1)
        windows = ahead.unfold(1, self.model.history, 1).movedim(-1, 2)  # [N, T - first, h, *S]
        told = self.model.outcome(windows.flatten(0, 1), actions[:, first:].flatten(0, 1))
        rewards, goes_on = (x.view(windows.shape[:2]) for x in told)
        alive = torch.cumprod(torch.cat([torch.ones_like(goes_on[:, :1]), goes_on], dim=1), dim=1)
        worth = self.model.discount ** torch.arange(first, states.shape[1] + 1, dtype=alive.dtype, device=alive.device)
        earned = (worth[:-1] * alive[:, :-1] * rewards).sum(1)
        if self.terminal:
            earned = earned + self.terminal * worth[-1] * alive[:, -1] * self.model.value(windows[:, -1])
        return -earned
