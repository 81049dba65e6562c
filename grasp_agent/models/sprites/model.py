"""A world model of sprites: their poses are the latent, found by explaining the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.core.types import Observation
from grasp_agent.models.frames import frames_of
from grasp_agent.models.outcomes import Outcomes, TellingOutcomes
from grasp_agent.models.proposals.flow import PlanProposal
from grasp_agent.models.proposals.piecewise import propose_piecewise
from grasp_agent.models.registry import register_model
from grasp_agent.models.sprites.colours import Difference
from grasp_agent.models.sprites.config import UNITS, SpritesConfig
from grasp_agent.models.sprites.context import SpritesContext
from grasp_agent.models.sprites.decoder import SpriteDecoder
from grasp_agent.models.sprites.dynamics import SpriteDynamics
from grasp_agent.models.sprites.encoder import PoseEncoder
from grasp_agent.models.sprites.readout import SpritesReadout
from grasp_agent.models.sprites.refinement import refined
from grasp_agent.models.steps_apart import StepsApart, TellingSteps


class SpritesModel(TellingOutcomes, TellingSteps, nn.Module):
    """Encoder, decoder and dynamics of sprites (a `core.types.WorldModel`). Proposals, outcomes and distances in steps
    are optional.

    Latents are as `SpritesConfig` lays them out, S = (D,).

    Args:
        config: sizes and sprites.
    """

    decodes = True

    def __init__(self, config: SpritesConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.state_shape: tuple[int, ...] = (config.state_size,)
        self.history = config.history
        self.action_dim = config.action_dim
        self.look_ahead = config.look_ahead
        self.action_block = 1
        self.action_limit = config.action_limit
        self.distance_weights = config.distance_weights
        self.readout = SpritesReadout(config)
        self.difference = Difference(config.image_size, config.backgrounds, config.colours, config.canvas)
        self.encoder = PoseEncoder(config.colours, config.encoder_channels, config.input_size, len(config.sprites))
        self.decoder = SpriteDecoder(config)
        self.dynamics = SpriteDynamics(config)
        context = SpritesContext(config)
        self.proposal = PlanProposal.of(config, context, config.action_scale)
        self.proposes = self.proposal is not None
        self.steps_apart = StepsApart.of(config.state_size, config.distance_hidden)
        self.outcomes = Outcomes.of(config, config.state_size, config.action_dim, config.action_scale)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def driven(self) -> tuple[bool, ...]:
        """Which latent numbers are of sprites that the actions move themselves, as the dynamics has learned it."""
        config = self.config
        sprites = range(len(config.sprites))
        moved = self.dynamics.moved_by_actions
        return tuple(moved[i] for i in (*sprites, *config.turning) for _ in (0, 1))

    def encode(self, obs: Observation) -> Tensor:
        """Encode frames.

        Args:
            obs: uint8 images [B, image_size, image_size, 3], or a mapping with them under "pixels".

        Returns:
            Latents [B, D].

        Raises:
            ValueError: the images have another shape or are not uint8.
        """
        picture, background = self.difference(frames_of(obs, self.image_size).to(self.device))
        places, headings = self.encoder(torch.cat([picture, background], dim=1))
        places, headings = refined(self.decoder, picture, background, places, headings)
        parts = [places.flatten(1) * UNITS]
        parts += [headings[:, i] * self.config.heading_length(i) for i in self.config.turning]
        return torch.cat(parts, dim=1)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """One model step: [N, h, D] states and [N, h, A] actions in environment units -> [N, D]."""
        following: Tensor = self.dynamics(states, actions)
        return following

    def poses(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, D] as places [B, S, 2] in half-pictures and headings [B, S, 2], which are (1, 0) for a disk."""
        sprites = len(self.config.sprites)
        headings = torch.eye(2, device=states.device, dtype=states.dtype)[:1].repeat(len(states), sprites, 1)
        for i in self.config.turning:
            first = self.config.heading(i)
            headings[:, i] = states[:, first : first + 2] / self.config.heading_length(i)
        return states[:, : 2 * sprites].unflatten(1, (sprites, 2)) / UNITS, headings

    def decode(self, states: Tensor) -> Tensor:
        """Latents [B, D] -> images in 0..1, [B, image_size, image_size, 3], on the first background."""
        places, headings = self.poses(states)
        background = self.difference.background().expand(len(states), -1, -1, -1)
        return self.difference.frames(self.decoder(places, headings, background).sum(1))

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Plans towards a goal (see `grasp_agent.core.capabilities.Proposing`).

        Raises:
            ValueError: the model makes no proposals.
        """
        return propose_piecewise(self, self.proposal, states, past_actions, goal, noise)


register_model("sprites", SpritesModel, SpritesConfig)
