"""What steps earn, whether the episode goes on, and what the rest is worth: small networks on latents.

They make a world model `Rewarding` (core/capabilities.py) and are trained by `training/outcomes.py`.

A planner finds whatever state a network overrates. So the value is the least of several networks' (as in TD3, Fujimoto
et al., arXiv 1802.09477, and TD-MPC): far from the data they disagree. And it is never above the best that was seen.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from grasp_agent.models.latent.dynamics import mlp

VALUES = 3
"""Networks that tell the value."""


class OutcomesConfig(Protocol):
    """What a model's settings say of these networks."""

    @property
    def history(self) -> int: ...
    @property
    def outcome_hidden(self) -> int: ...
    @property
    def discount(self) -> float: ...


class Outcomes(nn.Module):
    """Reward, chance to go on, and value. Latents, rewards and values are standardised inside.

    All are told from the last h latents [N, h, *S]: a single picture does not show how fast a thing moves.

    Args:
        state_size: numbers in h latents, D.
        action_size: A, numbers in an action block.
        hidden: width of the networks.
        discount: gamma, what a reward one model step later is worth.
        action_scale: the action that counts as 1.
    """

    mean: Tensor
    deviation: Tensor
    reward_moments: Tensor
    value_moments: Tensor
    best: Tensor

    def __init__(self, state_size: int, action_size: int, hidden: int, discount: float, action_scale: float) -> None:
        super().__init__()
        self.discount, self.action_scale = discount, action_scale
        self.register_buffer("mean", torch.zeros(state_size))
        self.register_buffer("deviation", torch.ones(state_size))
        self.register_buffer("reward_moments", torch.tensor([0.0, 1.0]))
        self.register_buffer("value_moments", torch.tensor([0.0, 1.0]))
        self.register_buffer("best", torch.tensor(torch.inf))
        self.reward_net = mlp(state_size + action_size, hidden, 2, 1)
        self.goes_on_net = mlp(state_size, hidden, 2, 1)
        self.value_nets = nn.ModuleList(mlp(state_size, hidden, 2, 1) for _ in range(VALUES))

    @classmethod
    def of(cls, config: OutcomesConfig, numbers: int, action_size: int, action_scale: float) -> Outcomes | None:
        """Networks as a model's settings ask for; None where their width is 0. `numbers` are in one latent."""
        if not config.outcome_hidden:
            return None
        return cls(config.history * numbers, action_size, config.outcome_hidden, config.discount, action_scale)

    def fit_scales(self, states: Tensor, rewards: Tensor, returns: Tensor) -> None:
        """Take means and deviations from data: latents [N, h, *S], rewards [N], discounted returns [N]."""
        states, rewards, returns = (x.to(self.mean) for x in (states.flatten(1), rewards, returns))  # data: on the CPU
        self.mean, self.deviation = states.mean(0), states.std(0).clamp(min=1e-4)
        self.reward_moments = torch.stack([rewards.mean(), rewards.std().clamp(min=1e-4)])
        self.value_moments = torch.stack([returns.mean(), returns.std().clamp(min=1e-4)])
        self.best = returns.max()

    def reward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Rewards of steps that led to the last of `states` [N, h, *S] by `actions` [N, A] -> [N]."""
        told = self.reward_net(torch.cat([self._seen(states), actions / self.action_scale], dim=1))
        return _in_units(told, self.reward_moments)

    def goes_on_logit(self, states: Tensor) -> Tensor:
        """Logit of the chance that the episode did not end in the last of `states` [N, h, *S] -> [N]."""
        logit: Tensor = self.goes_on_net(self._seen(states))
        return logit[:, 0]

    def values(self, states: Tensor) -> Tensor:
        """What is earned after `states` [N, h, *S], discounted, as each network tells it -> [VALUES, N]."""
        seen = self._seen(states)
        return torch.stack([_in_units(net(seen), self.value_moments) for net in self.value_nets])

    def value(self, states: Tensor) -> Tensor:
        """What is earned after `states` [N, h, *S], discounted: the least told, at most the best seen -> [N]."""
        least: Tensor = self.values(states).amin(0).clamp(max=self.best)
        return least

    def _seen(self, states: Tensor) -> Tensor:
        return (states.flatten(1) - self.mean) / self.deviation


class TellingOutcomes:
    """A world model with networks that tell outcomes, or without: what makes it `Rewarding`.

    Attributes:
        outcomes: the networks, or None.
    """

    outcomes: Outcomes | None

    @property
    def rewards(self) -> bool:
        """Whether this model foresees rewards."""
        return self.outcomes is not None

    @property
    def discount(self) -> float:
        """What a reward one model step later is worth; 1 if the model foresees none."""
        return 1.0 if self.outcomes is None else self.outcomes.discount

    def outcome(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards, and chances to go on (see `grasp_agent.core.capabilities.Rewarding`).

        Raises:
            ValueError: the model foresees no rewards.
        """
        told = self._outcomes()
        return told.reward(states, actions), told.goes_on_logit(states).sigmoid()

    def value(self, states: Tensor) -> Tensor:
        """What is earned after `states` [N, h, *S], discounted -> [N].

        Raises:
            ValueError: the model foresees no rewards.
        """
        return self._outcomes().value(states)

    def _outcomes(self) -> Outcomes:
        if self.outcomes is None:
            raise ValueError("rewards: this world model foresees none; train it on data with rewards")
        return self.outcomes


def _in_units(told: Tensor, moments: Tensor) -> Tensor:
    mean, deviation = moments.unbind()
    return mean + deviation * told[:, 0]
