"""What a plan costs where the model is a little wrong: rollouts with noise on every predicted state.

    s_{t+1} = F(s_t, a_t) + sigma * xi_t,      xi_t ~ N(0, I), the same for all plans of a problem

A plan whose success hangs by a thread fails in some of them. The median over a few counts: a single far miss says no
more than that there was one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from grasp_agent.core.rng import normal
from grasp_agent.core.types import Problem, WorldModel
from grasp_agent.planning.rollout import true_cost

ROLLOUTS = 8


@torch.no_grad()
def cost_under_noise(problem: Problem, u: Tensor, keys: Tensor, deviation: Tensor) -> Tensor:
    """Median cost of plans with noise on the states.

    Args:
        problem: B problems.
        u: normalised plans, [B, R, T, A].
        keys: random key per row, [B].
        deviation: sigma, in latent units, [B].

    Returns:
        Costs [B, R]; infinite where most rollouts are not finite.
    """
    b, r, steps, _ = u.shape
    noise = normal(keys, (ROLLOUTS, steps, *problem.goal.shape[1:]), problem.goal.dtype)
    noise = deviation.view(-1, *[1] * (noise.ndim - 1)) * noise
    noise = noise.unsqueeze(1).expand(-1, r, *noise.shape[1:]).flatten(0, 2)
    cost, _ = true_cost(replace(problem, model=_Disturbed(problem.model, noise)), u.repeat_interleave(ROLLOUTS, dim=1))
    median: Tensor = cost.view(b, r, -1).median(dim=2).values
    return median


class _Disturbed:
    """A model whose predictions come with noise [N, T, *S], one step after the other."""

    def __init__(self, model: WorldModel, noise: Tensor) -> None:
        self.state_shape, self.history = model.state_shape, model.history
        self.action_dim, self.action_block = model.action_dim, model.action_block
        self.encode, self._predict = model.encode, model.predict
        self._noise = iter(noise.unbind(1))

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return self._predict(states, actions) + next(self._noise)
