"""A world model of vector observations: standardised, they are the latent; a residual network predicts the next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.core.types import Observation
from grasp_agent.models.latent.dynamics import mlp
from grasp_agent.models.outcomes import Outcomes, TellingOutcomes
from grasp_agent.models.proposals.flow import PlanProposal, WindowContext
from grasp_agent.models.proposals.piecewise import propose_piecewise
from grasp_agent.models.registry import register_model
from grasp_agent.models.steps_apart import StepsApart, TellingSteps
from grasp_agent.models.vector.config import VectorConfig


class VectorDynamics(nn.Module):
    """Standardised states [N, h, D] and actions [N, h, A], environment units, to the next state [N, D]:

        s_{t+1} = s_t + step * f(s_{t-h+1..t}, a_{t-h+1..t} / scale),

    with the typical `step` of every number taken from the data, so that f is of order one.
    """

    step: Tensor

    def __init__(self, config: VectorConfig) -> None:
        super().__init__()
        self.action_scale = config.action_scale
        self.register_buffer("step", torch.ones(config.size))
        self.net = mlp(config.history * (config.size + config.action_dim), config.hidden, config.depth, config.size)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        window = torch.cat([states.flatten(1), actions.flatten(1) / self.action_scale], dim=1)
        following: Tensor = states[:, -1] + self.step * self.net(window)
        return following


class VectorModel(TellingOutcomes, TellingSteps, nn.Module):
    """Dynamics of vector observations (a `core.types.WorldModel`); S = (D,). Proposals, outcomes and distances in steps
    are optional.

    Args:
        config: sizes.
    """

    mean: Tensor
    deviation: Tensor
    image_size = None
    decoder = None
    action_block = 1

    def __init__(self, config: VectorConfig) -> None:
        super().__init__()
        self.config = config
        self.state_shape: tuple[int, ...] = (config.size,)
        self.history = config.history
        self.action_dim = config.action_dim
        self.look_ahead = config.look_ahead
        self.distance_weights = config.distance_weights
        self.register_buffer("mean", torch.zeros(config.size))
        self.register_buffer("deviation", torch.ones(config.size))
        self.dynamics = VectorDynamics(config)
        context = WindowContext(config.size, config.action_dim, 1, config.history, config.action_scale)
        self.proposal = PlanProposal.of(config, context, config.action_scale)
        self.proposes = self.proposal is not None
        counts = None if config.distance_weights is None else [weight > 0 for weight in config.distance_weights]
        self.steps_apart = StepsApart.of(config.size, config.distance_hidden, counts)
        self.outcomes = Outcomes.of(config, config.size, config.action_dim, config.action_scale)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def fit_scales(self, observations: Tensor, changes: Tensor) -> None:
        """Take means and deviations from data: observations [N, D], and changes by one step [N, D].

        What never changes keeps its own unit, and is predicted to stay.
        """
        deviation = observations.std(0)
        self.mean, self.deviation = observations.mean(0), torch.where(deviation > 1e-6, deviation, 1.0)
        self.dynamics.step = changes.square().mean(0).sqrt() / self.deviation

    def encode(self, obs: Observation) -> Tensor:
        """Standardise observations [B, D] -> latents [B, D].

        Raises:
            ValueError: the observations are not vectors of this size.
        """
        if not isinstance(obs, Tensor) or obs.ndim != 2 or obs.shape[1] != self.config.size:
            got = list(obs.shape) if isinstance(obs, Tensor) else type(obs).__name__
            raise ValueError(f"observation: expected vectors of {self.config.size} numbers, got {got}")
        return (obs.to(self.mean) - self.mean) / self.deviation

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """One model step: [N, h, D] states and [N, h, A] actions in environment units -> [N, D]."""
        following: Tensor = self.dynamics(states, actions)
        return following

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Plans towards a goal (see `grasp_agent.core.capabilities.Proposing`).

        Raises:
            ValueError: the model makes no proposals.
        """
        return propose_piecewise(self, self.proposal, states, past_actions, goal, noise)


register_model("vector", VectorModel, VectorConfig)
