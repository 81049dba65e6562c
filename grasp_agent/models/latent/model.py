"""A latent world model of images: encoder, dynamics, decoder and proposals behind the `WorldModel` protocol."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.core.types import Observation
from grasp_agent.models.frames import frames_of
from grasp_agent.models.latent.config import WorldModelConfig
from grasp_agent.models.latent.decoder import FrameDecoder
from grasp_agent.models.latent.encoders import ConvEncoder
from grasp_agent.models.latent.layout import LAYOUTS, StateLayout
from grasp_agent.models.proposals.flow import PlanProposal
from grasp_agent.models.proposals.piecewise import propose_piecewise
from grasp_agent.models.registry import register_model


class LatentWorldModel(nn.Module):
    """Encoder, dynamics and optional decoder of image observations (a `grasp_agent.core.types.WorldModel`).

    Args:
        config: sizes and structure.

    Attributes:
        layout: what the numbers of its latent mean.
        readout: tells physical errors between latents, if the layout gives them a meaning; else None.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = LAYOUTS[config.layout]
        self.readout = self.layout if isinstance(self.layout, StateLayout) else None
        self.image_size = config.image_size
        self.state_shape: tuple[int, ...] = (config.state_size,)
        self.history = config.history
        self.action_dim = config.action_dim
        self.action_block = config.action_block
        self.action_limit = config.action_limit
        self.distance_weights = config.distance_weights
        self.driven = self.layout.driven
        self.encoder = ConvEncoder(
            config.image_size,
            config.encoder_channels,
            config.encoder_keypoints,
            config.encoder_hidden,
            config.state_size,
        )
        self.dynamics = self.layout.dynamics(config)
        self.decoder: FrameDecoder | None = None
        if config.decoder_channels:
            self.decoder = FrameDecoder(
                config.image_size, config.decoder_channels, config.encoder_hidden, config.state_size
            )

        context = self.layout.context(config)
        self.proposal = PlanProposal.of(config, context, config.action_scale)
        self.decodes, self.proposes = self.decoder is not None, self.proposal is not None

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
        features: Tensor = self.encoder(frames_of(obs, self.image_size).to(self.device))
        return self.layout.latents(features, self.config)

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
        images: Tensor = self.decoder(states / self.layout.scale(self.config))
        return images

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Plans towards a goal (see `grasp_agent.core.capabilities.Proposing`).

        Raises:
            ValueError: the model makes no proposals.
        """
        return propose_piecewise(self, self.proposal, states, past_actions, goal, noise)


register_model("latent", LatentWorldModel, WorldModelConfig)
