"""A latent world model of images: encoder, dynamics, decoder and proposals behind the `WorldModel` protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from grasp_agent.core.types import Observation
from grasp_agent.models.latent.decoder import FrameDecoder
from grasp_agent.models.latent.dynamics import MLPDynamics, PlanarPushDynamics
from grasp_agent.models.latent.encoders import ConvEncoder
from grasp_agent.models.proposals.flow import Context, PlanarPushContext, PlanProposal, WindowContext

PUSH_STATE_SIZE = 6

PROPOSAL_STRIDE = 6
"""Environment steps after which a long proposal is made anew from where the model says that it has led."""


@dataclass(frozen=True)
class WorldModelConfig:
    """Everything needed to rebuild a `LatentWorldModel`, saved as config.json beside its weights.

    Attributes:
        image_size: height and width of the frames it reads, a multiple of 8.
        layout: what a latent is. "free": `state_size` numbers without prescribed meaning. "planar_push":
            (pusher x, y; body x, y; rho cos, rho sin of the body's angle), for a pusher and a body in the
            plane.
        state_size: numbers in a latent; 6 with layout "planar_push".
        history: h, frames the dynamics reads.
        action_dim: numbers in one environment action.
        action_block: k, environment steps per model step.
        action_scale: the action magnitude that counts as 1 inside the dynamics, in environment units.
        action_limit: largest number in an action that the training data cover, in environment units; agents
            plan within it. None means the environment's own bounds.
        distance_weights: what of a goal matters: weight of every latent number in the distance that an agent minimises
            unless it is given an objective; None weighs all alike.
        length: typical distance in latent units (planar_push).
        radius: rho in latent units (planar_push).
        encoder_channels: channels of the encoder's first scale.
        encoder_keypoints: keypoints of its spatial softmax.
        encoder_hidden: width of its head.
        dynamics_hidden: width of the dynamics network.
        dynamics_depth: its hidden layers.
        decoder_channels: channels of the decoder's last scale; 0 means no decoder.
        proposal_hidden: width of the network that proposes plans; 0 means that the model makes no proposals.
        proposal_depth: its residual blocks.
        proposal_steps: environment steps of a proposed plan.
    """

    image_size: int = 64
    layout: Literal["free", "planar_push"] = "free"
    state_size: int = 32
    history: int = 3
    action_dim: int = 2
    action_block: int = 1
    action_scale: float = 1.0
    action_limit: float | None = None
    distance_weights: tuple[float, ...] | None = None
    length: float = 5.0
    radius: float = 1.0
    encoder_channels: int = 16
    encoder_keypoints: int = 32
    encoder_hidden: int = 256
    dynamics_hidden: int = 384
    dynamics_depth: int = 3
    decoder_channels: int = 16
    proposal_hidden: int = 0
    proposal_depth: int = 3
    proposal_steps: int = 25

    def __post_init__(self) -> None:
        if self.layout not in ("free", "planar_push"):
            raise ValueError(f"layout: expected 'free' or 'planar_push', got {self.layout!r}")
        if self.layout == "planar_push" and (self.state_size != PUSH_STATE_SIZE or self.action_dim != 2):
            raise ValueError(
                f"layout 'planar_push': expected state_size {PUSH_STATE_SIZE} and action_dim 2, "
                f"got {self.state_size} and {self.action_dim}; try layout 'free'"
            )
        if self.layout == "planar_push" and self.action_block != 1:
            raise ValueError(
                f"layout 'planar_push': expected action_block 1, got {self.action_block}; try layout 'free'"
            )
        positive = {
            "image_size": self.image_size,
            "state_size": self.state_size,
            "action_dim": self.action_dim,
            "history": self.history,
            "action_block": self.action_block,
            "action_scale": self.action_scale,
            "length": self.length,
            "radius": self.radius,
            "encoder_channels": self.encoder_channels,
            "encoder_keypoints": self.encoder_keypoints,
            "encoder_hidden": self.encoder_hidden,
            "dynamics_hidden": self.dynamics_hidden,
            "dynamics_depth": self.dynamics_depth,
            "proposal_depth": self.proposal_depth,
            "proposal_steps": self.proposal_steps,
        }
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if self.action_limit is not None and self.action_limit <= 0:
            raise ValueError(f"action_limit: expected a positive number or None, got {self.action_limit}")
        if self.distance_weights is not None:
            object.__setattr__(self, "distance_weights", tuple(self.distance_weights))  # a list, where it was saved
            if len(self.distance_weights) != self.state_size:
                raise ValueError(
                    f"distance_weights: expected {self.state_size} numbers, one per number of the latent, got"
                    f" {len(self.distance_weights)}"
                )


class LatentWorldModel(nn.Module):
    """Encoder, dynamics and optional decoder of image observations (a `grasp_agent.core.types.WorldModel`).

    Args:
        config: sizes and structure.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.state_shape: tuple[int, ...] = (config.state_size,)
        self.history = config.history
        self.action_dim = config.action_dim
        self.action_block = config.action_block
        self.action_limit = config.action_limit
        self.distance_weights = config.distance_weights
        self.encoder = ConvEncoder(
            config.image_size,
            config.encoder_channels,
            config.encoder_keypoints,
            config.encoder_hidden,
            config.state_size,
        )
        self.dynamics: nn.Module
        if config.layout == "planar_push":
            self.dynamics = PlanarPushDynamics(
                config.history,
                config.dynamics_hidden,
                config.dynamics_depth,
                config.radius,
                config.length,
                config.action_scale,
            )
        else:
            self.dynamics = MLPDynamics(
                config.state_size,
                config.action_dim * config.action_block,
                config.history,
                config.dynamics_hidden,
                config.dynamics_depth,
                config.action_scale,
            )
        self.decoder: FrameDecoder | None = None
        if config.decoder_channels:
            self.decoder = FrameDecoder(
                config.image_size, config.decoder_channels, config.encoder_hidden, config.state_size
            )

        self.proposal: PlanProposal | None = None
        if config.proposal_hidden:
            self.proposal = PlanProposal(
                _context(config),
                config.proposal_steps,
                config.action_dim,
                config.proposal_hidden,
                config.proposal_depth,
                config.action_scale,
            )
        self.proposes = self.proposal is not None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, obs: Observation) -> Tensor:
        """Encode frames.

        Args:
            obs: uint8 images [B, image_size, image_size, 3], or a mapping with them under "pixels".

        Returns:
            Latents [B, D].

        Raises:
            ValueError: the images have another shape or are not uint8.
        """
        frames = obs["pixels"] if isinstance(obs, Mapping) else obs
        want = (self.image_size, self.image_size, 3)
        if frames.dtype != torch.uint8 or frames.ndim != 4 or tuple(frames.shape[1:]) != want:
            raise ValueError(
                f"encode: expected uint8 images of shape [B, {want[0]}, {want[1]}, 3], got {frames.dtype} of shape "
                f"{list(frames.shape)}; try the environment's resolution={self.image_size}"
            )
        features: Tensor = self.encoder(frames.to(self.device))
        if self.config.layout == "free":
            return features
        heading = nn.functional.normalize(features[:, 4:6], dim=1, eps=1e-6)
        return torch.cat([features[:, 0:4] * self.config.length, heading * self.config.radius], dim=1)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """One model step: [N, h, D] states and [N, h, A] actions in environment units -> [N, D]."""
        following: Tensor = self.dynamics(states, actions)
        return following

    def decode(self, states: Tensor) -> Tensor:
        """Latents [B, D] -> images in 0..1, [B, image_size, image_size, 3].

        Raises:
            ValueError: the model has no decoder.
        """
        if self.decoder is None:
            raise ValueError("decode: this world model was built without a decoder (decoder_channels = 0)")
        scaled = states / self._latent_scale()
        images: Tensor = self.decoder(scaled)
        return images

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Plans towards a goal, as `grasp_agent.core.types.Proposing` says; every other one looks at the whole goal.

        Plans longer than `proposal_steps` environment steps are made piece by piece: each piece starts from the states
        that the dynamics predicts for the pieces before.

        Raises:
            ValueError: the model makes no proposals.
        """
        if self.proposal is None:
            raise ValueError("propose: this world model makes no proposals (proposal_hidden = 0)")
        b, n, steps, dim = noise.shape
        k, span = self.action_block, self.proposal.steps
        shown = (torch.arange(n, device=noise.device) % 2).to(noise.dtype).repeat(b).unsqueeze(1)
        states, past, goal = (x.repeat_interleave(n, dim=0) for x in (states, past_actions, goal))
        drawn = nn.functional.pad(noise.flatten(0, 1), (0, 0, 0, max(span - steps, 0)))
        stride = max(min(PROPOSAL_STRIDE, span) // k, 1) * k if steps > span else span
        pieces: list[Tensor] = []
        for begin in range(0, max(steps, 1), stride):
            window = (torch.arange(begin, begin + span, device=noise.device)) % drawn.shape[1]
            plan = self.proposal(states, past, goal, shown, drawn[:, window])[:, : min(stride, steps - begin)]
            pieces.append(plan)
            if begin + stride < steps:
                states, past = self._advance(states, past, plan)
        return torch.cat(pieces, dim=1).view(b, n, steps, dim)

    def _advance(self, states: Tensor, past: Tensor, plan: Tensor) -> tuple[Tensor, Tensor]:
        """The window of history after a plan [N, steps, dim] of whole blocks."""
        limit = self.action_limit or torch.inf
        for block in plan.clamp(-limit, limit).reshape(len(plan), -1, self.action_dim * self.action_block).unbind(1):
            actions = torch.cat([past, block.unsqueeze(1)], dim=1)
            following = self.predict(states, actions)
            states, past = torch.cat([states[:, 1:], following.unsqueeze(1)], dim=1), actions[:, 1:]
        return states, past

    def _latent_scale(self) -> float:
        return self.config.length if self.config.layout == "planar_push" else 1.0


def _context(config: WorldModelConfig) -> Context:
    """What the model's proposals are conditioned on."""
    if config.layout == "planar_push":
        return PlanarPushContext(config.history, config.radius, config.length, config.action_scale)
    return WindowContext(config.state_size, config.action_dim, config.action_block, config.history, config.action_scale)
