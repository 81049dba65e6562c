"""RobustChoice: of several plans, the one that is still cheap where the model is a little wrong.

    s_{t+1} = s_t + (1 + sigma * xi_t) * (F(s_t, a_t) - s_t),      xi_t ~ N(0, I), the same for all plans of a problem
    choice  = argmin over plans of the median cost over the samples of xi

A model is never quite right. A plan that just passes a corner under the model misses it in the environment, and fails
in some of the noisy rollouts. The median counts rather than the mean: one far miss says no more than that there was
one.

Every number of the latent is wrong by a share of how far it moves. What rests, rests under noise as well: with noise
of one size for all, what the noise does to things that no plan touches would soon count more than what plans do, and
a body close to its goal would never be brought nearer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, positive
from grasp_agent.core.rng import normal
from grasp_agent.core.types import Problem, WorldModel
from grasp_agent.planning.plans import Plans
from grasp_agent.planning.rollout import frozen, true_cost


@dataclass(frozen=True)
class RobustChoice:
    """The choice among plans.

    Attributes:
        noise: sigma, the share of each move by which the model is taken to be wrong.
        samples: noisy rollouts of each plan.
    """

    noise: float = 0.1
    samples: int = 8

    def __post_init__(self) -> None:
        positive(self, "noise")
        at_least(self, 1, "samples")

    @torch.no_grad()
    def choose(self, problem: Problem, plans: Plans, keys: Tensor) -> Tensor:
        """Which of the plans [B, M] to take, [B]; `keys` [B] are random keys.

        Plans of infinite cost are taken only if there are no others; if noise breaks all of them, the cheapest is.
        """
        cost = self.cost_under_noise(problem, plans.actions, keys).masked_fill(plans.cost.isinf(), torch.inf)
        return torch.where(cost.isinf().all(dim=1), plans.cost.argmin(dim=1), cost.argmin(dim=1))

    @torch.no_grad()
    def cost_under_noise(self, problem: Problem, u: Tensor, keys: Tensor) -> Tensor:
        """Median cost of normalised plans u [B, M, T, A], [B, M]; infinite where most rollouts are not finite."""
        b, m, steps, _ = u.shape
        noise = normal(keys, (self.samples, steps, *problem.goal.shape[1:]), problem.goal.dtype)
        noise = self.noise * noise.unsqueeze(1).expand(-1, m, *noise.shape[1:]).flatten(0, 2)
        disturbed = replace(problem, model=_Disturbed(problem.model, noise))
        with frozen(problem.model):
            cost, _ = true_cost(disturbed, u.repeat_interleave(self.samples, dim=1))
        median: Tensor = cost.view(b, m, -1).median(dim=2).values
        return median


class _Disturbed:
    """A model whose moves are wrong by a share, given as noise [N, T, *S], one step after the other."""

    def __init__(self, model: WorldModel, noise: Tensor) -> None:
        self.state_shape, self.history = model.state_shape, model.history
        self.action_dim, self.action_block = model.action_dim, model.action_block
        self.encode, self._predict = model.encode, model.predict
        self._noise = iter(noise.unbind(1))

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        now = states[:, -1]
        return now + (1 + next(self._noise)) * (self._predict(states, actions) - now)
