"""The layout "planar_push": a latent is the pose of a pusher and a body in the plane."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.config import WorldModelConfig
from grasp_agent.models.latent.layout import StateLayout, register_layout
from grasp_agent.models.planar_push import poses
from grasp_agent.models.planar_push.context import PlanarPushContext
from grasp_agent.models.planar_push.dynamics import PlanarPushDynamics

STATE_SIZE = 6


class PlanarPush(StateLayout):
    """(pusher x, y; body x, y; rho cos, rho sin of the body's angle), as `poses` measures them.

    Proposals are pieces of environment steps and the symmetries turn single actions, so a block is one action.
    """

    state_numbers = 5
    driven = (True, True, False, False, False, False)

    def check(self, config: WorldModelConfig) -> None:
        wanted = {"state_size": STATE_SIZE, "action_dim": 2, "action_block": 1}
        for name, value in wanted.items():
            if getattr(config, name) != value:
                raise ValueError(
                    f"layout 'planar_push': expected {name} {value}, got {getattr(config, name)}; try layout 'free'"
                )

    def model_config(self) -> WorldModelConfig:
        """Settings of the shipped model."""
        return WorldModelConfig(
            layout="planar_push",
            state_size=STATE_SIZE,
            radius=poses.RADIUS,
            action_scale=0.3,
            action_limit=0.5,
            distance_weights=(poses.PUSHER_WEIGHT, poses.PUSHER_WEIGHT, 1.0, 1.0, 1.0, 1.0),
            proposal_hidden=256,
        )

    def scale(self, config: WorldModelConfig) -> float:
        return config.length

    def latents(self, features: Tensor, config: WorldModelConfig) -> Tensor:
        heading = functional.normalize(features[:, 4:6], dim=1, eps=1e-6)
        return torch.cat([features[:, 0:4] * config.length, heading * config.radius], dim=1)

    def dynamics(self, config: WorldModelConfig) -> nn.Module:
        return PlanarPushDynamics(
            config.history,
            config.dynamics_hidden,
            config.dynamics_depth,
            config.radius,
            config.length,
            config.action_scale,
        )

    def context(self, config: WorldModelConfig) -> PlanarPushContext:
        return PlanarPushContext(config.history, config.radius, config.length, config.action_scale)

    def latents_of_states(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        return poses.latents_of_states(states)

    def errors(self, latents: Tensor, goal: Tensor) -> dict[str, Tensor]:
        return poses.pose_errors(latents, goal)

    def reaches(self, latents: Tensor, goal: Tensor) -> Tensor:
        return poses.reaches(latents, goal)

    def positions(self, latents: Tensor) -> dict[str, Tensor]:
        return poses.positions(latents)

    def random_symmetry(self, states: Tensor, actions: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        return poses.random_symmetry(states, actions, generator)


PLANAR_PUSH = PlanarPush()
register_layout("planar_push", PLANAR_PUSH)
