"""The layout "planar_push": a latent is the pose of a pusher and a body in the plane.

A simulator state is (pusher x, y; body x, y; angle; ...) in pixels and radians. As a latent it is measured from
the arena's centre in units of `UNIT` = 20 px, and the angle is a vector of length `RADIUS`: one radian of turn
weighs as much as 57.3 px, so that the two tolerances of the goal-reaching task, 20 px and pi / 9, are both a
latent distance of 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.config import WorldModelConfig
from grasp_agent.models.latent.layout import StateLayout, register_layout
from grasp_agent.models.planar_push.context import PlanarPushContext
from grasp_agent.models.planar_push.dynamics import PlanarPushDynamics

STATE_SIZE = 6
UNIT = 20.0
CENTRE = 255.5
RADIUS = float(9.0 / np.pi)
TOLERANCE_DEG = 20.0
"""Of the goal-reaching task, beside `UNIT` pixels."""
PUSHER_WEIGHT = 0.03
"""Of the pusher's place in the distance to a goal, the body's counting 1: where the pusher stands is soon mended, and a
plan that must not leave its place never walks round the body."""


class PlanarPush(StateLayout):
    """(pusher x, y; body x, y; rho cos, rho sin of the body's angle), in `UNIT`s from the centre; rho is `RADIUS`.

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
            radius=RADIUS,
            action_scale=0.3,
            action_limit=0.5,
            distance_weights=(PUSHER_WEIGHT, PUSHER_WEIGHT, 1.0, 1.0, 1.0, 1.0),
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
        position = (states[..., 0:4] - CENTRE) / UNIT
        angle = states[..., 4:5]
        return np.concatenate([position, RADIUS * np.cos(angle), RADIUS * np.sin(angle)], axis=-1).astype(np.float32)

    def errors(self, latents: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Errors between latents [..., 6]: "pusher_px", "body_px" and "body_deg", each [...]."""
        cross = latents[..., 4] * goal[..., 5] - latents[..., 5] * goal[..., 4]
        dot = latents[..., 4] * goal[..., 4] + latents[..., 5] * goal[..., 5]
        return {
            "pusher_px": (latents[..., 0:2] - goal[..., 0:2]).norm(dim=-1) * UNIT,
            "body_px": (latents[..., 2:4] - goal[..., 2:4]).norm(dim=-1) * UNIT,
            "body_deg": torch.rad2deg(torch.atan2(cross, dot).abs()),
        }

    def reaches(self, latents: Tensor, goal: Tensor) -> Tensor:
        """The environment's test: norm of the four position errors below 20 px, angle error below 20 degrees."""
        errors = self.errors(latents, goal)
        position = torch.hypot(errors["pusher_px"], errors["body_px"])
        return (position < UNIT) & (errors["body_deg"] < TOLERANCE_DEG)

    def positions(self, latents: Tensor) -> dict[str, Tensor]:
        return {"pusher": latents[..., 0:2] * UNIT + CENTRE, "body": latents[..., 2:4] * UNIT + CENTRE}

    def random_symmetry(self, states: Tensor, actions: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Turn the square arena by a multiple of 90 degrees and mirror it, each row its own way.

        The body is its own mirror image, and walls and pusher look the same from all sides, so the physics does not
        change.
        """
        rows = len(states)
        turn = torch.as_tensor(generator.integers(0, 4, rows)) * (torch.pi / 2)
        mirror = torch.as_tensor(generator.integers(0, 2, rows)).float() * 2.0 - 1.0
        cos, sin = turn.cos(), turn.sin()
        rotate = torch.stack(
            [torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2
        )  # [B, 2, 2], column vectors
        flip = torch.stack([mirror, torch.ones_like(mirror)], -1)[:, None, :]  # x changes sign
        flip_heading = torch.stack([torch.ones_like(mirror), mirror], -1)[:, None, :]  # the angle changes sign

        def apply(vectors: Tensor, sign: Tensor) -> Tensor:
            return (vectors * sign) @ rotate.transpose(1, 2)

        moved = [
            apply(states[..., 0:2], flip),
            apply(states[..., 2:4], flip),
            apply(states[..., 4:6], flip_heading),
        ]
        return torch.cat(moved, -1), apply(actions, flip)


PLANAR_PUSH = PlanarPush()
register_layout("planar_push", PLANAR_PUSH)
