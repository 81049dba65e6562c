"""A world model whose latent is learnt by predicting it, with an encoder for whole pictures of any content."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.types import Observation
from grasp_agent.models.frames import frames_of
from grasp_agent.models.joint_embedding.config import JointEmbeddingConfig
from grasp_agent.models.joint_embedding.dynamics import InverseDynamics, make_dynamics
from grasp_agent.models.joint_embedding.encoders import ColourWhitening, ResidualBlock, make_encoder
from grasp_agent.models.outcomes import Outcomes, TellingOutcomes
from grasp_agent.models.proposals.flow import PlanProposal, WindowContext
from grasp_agent.models.proposals.piecewise import propose_piecewise
from grasp_agent.models.registry import register_model
from grasp_agent.models.steps_apart import StepsApart, TellingSteps


class JointEmbeddingModel(TellingOutcomes, TellingSteps, nn.Module):
    """Encoder, dynamics and inverse dynamics (a `core.types.WorldModel`). Decoder, proposals, outcomes and distances in
    steps are optional.

    A latent is a vector, S = (D,), or a grid of cells, S = (P, D).

    Args:
        config: sizes and structure.
    """

    action_mean: Tensor
    action_std: Tensor

    def __init__(self, config: JointEmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.state_shape: tuple[int, ...] = (config.grid**2, config.state_size) if config.grid else (config.state_size,)
        self.history = config.history
        self.action_dim = config.action_dim
        self.action_block = config.action_block
        self.action_limit = config.action_limit
        self.register_buffer("action_mean", torch.tensor(config.action_mean), persistent=False)
        self.register_buffer("action_std", torch.tensor(config.action_std), persistent=False)
        numbers, block = config.state_size * max(config.grid, 1) ** 2, config.action_dim * config.action_block
        self.whitening = ColourWhitening(config.input_size)
        self.encoder = make_encoder(config)
        self.dynamics = make_dynamics(config)
        self.inverse = InverseDynamics(numbers, block)
        self.decoder: ImageDecoder | None = ImageDecoder(config) if config.decoder_channels else None
        scale = sum(config.action_std) / len(config.action_std)
        context = WindowContext(config.state_size, config.action_dim, config.action_block, config.history, scale)
        self.proposal = PlanProposal.of(config, context, scale)
        self.steps_apart = StepsApart.of(numbers, config.distance_hidden)
        self.outcomes = Outcomes.of(config, numbers, block, scale)
        self.look_ahead = config.look_ahead
        self.decodes, self.proposes = self.decoder is not None, self.proposal is not None

    @property
    def device(self) -> torch.device:
        return self.action_mean.device

    def encode(self, obs: Observation) -> Tensor:
        """Encode frames.

        Args:
            obs: uint8 images [B, image_size, image_size, 3], or a mapping with them under "pixels".

        Returns:
            Latents [B, *S].

        Raises:
            ValueError: the images have another shape or are not uint8.
        """
        latents: Tensor = self.encoder(self.whitening(frames_of(obs, self.image_size).to(self.device)))
        return latents

    def normalised(self, actions: Tensor) -> Tensor:
        """Blocks of environment actions [..., A] in the data's deviations from their mean."""
        return in_deviations(actions, self.action_mean, self.action_std)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """One model step: [N, h, *S] states and [N, h, A] actions in environment units -> [N, *S]."""
        following: Tensor = self.dynamics(states, self.normalised(actions))
        return following

    def decode(self, states: Tensor) -> Tensor:
        """Latents [B, *S] -> images in 0..1, [B, image_size, image_size, 3].

        Raises:
            ValueError: the model has no decoder.
        """
        images = self.drawn(states)
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return self.whitening.colours(images).clamp(0, 1)

    def drawn(self, states: Tensor) -> Tensor:
        """Latents [B, *S] -> images as the encoder sees them, [B, 3, input_size, input_size]."""
        if self.decoder is None:
            raise ValueError("decode: this world model was built without a decoder (decoder_channels = 0)")
        images: Tensor = self.decoder(states)
        return images

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Plans towards a goal (see `grasp_agent.core.capabilities.Proposing`).

        Raises:
            ValueError: the model makes no proposals.
        """
        return propose_piecewise(self, self.proposal, states, past_actions, goal, noise)


def in_deviations(actions: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Blocks of actions [..., k * dim] in deviations `std` [dim] from their `mean` [dim]."""
    steps = actions.unflatten(-1, (-1, len(mean)))
    blocks: Tensor = ((steps - mean) / std).flatten(-2)
    return blocks


class ImageDecoder(nn.Module):
    """Latents -> images [B, 3, input_size, input_size] in whitened colours, by transposed convolutions."""

    def __init__(self, config: JointEmbeddingConfig) -> None:
        super().__init__()
        doublings = (config.patch - 1).bit_length()
        channels = config.decoder_channels * 2 ** min(doublings, 3)
        self.cells, self.is_grid = config.cells, bool(config.grid)
        first: nn.Module = nn.Conv2d(config.state_size, channels, 3, padding=1)
        if not config.grid:
            first = nn.Sequential(
                nn.Linear(config.state_size, 256), nn.SiLU(), nn.Linear(256, channels * self.cells**2),
                nn.Unflatten(1, (channels, self.cells, self.cells)),
            )  # fmt: skip
        layers: list[nn.Module] = [first, ResidualBlock(channels), ResidualBlock(channels)]
        for _ in range(doublings):
            narrower = max(config.decoder_channels, channels // 2)
            layers += [nn.SiLU(), nn.ConvTranspose2d(channels, narrower, 4, stride=2, padding=1)]
            channels = narrower
        self.net = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, states: Tensor) -> Tensor:
        if self.is_grid:
            states = states.transpose(1, 2).unflatten(2, (self.cells, self.cells))
        images: Tensor = self.net(states)
        return images


register_model("joint_embedding", JointEmbeddingModel, JointEmbeddingConfig)
