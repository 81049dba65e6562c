"""What latents of sprites measure: places in the picture and headings (a `core.capabilities.Readout`)."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_agent.models.sprites.config import UNITS, SpritesConfig

NEAR = 0.04
"""Of the picture's side: how far the places of all things together may be from those of a goal that is reached."""
TURNED = 20.0
"""Degrees by which each thing may be turned against it."""


class SpritesReadout:
    """Errors in pixels of the picture and degrees. Of Push-T this is the published test, seen in pictures.

    Args:
        config: of the model.
    """

    def __init__(self, config: SpritesConfig) -> None:
        self.config = config

    def errors(self, latents: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Distances between latents [..., D] and goals [..., D], each [...]: "sprite1_px", "sprite2_deg" and so on."""
        pixel = self.config.image_size / 2 / UNITS
        numbers = range(len(self.config.sprites))
        found = {f"sprite{i + 1}_px": pixel * self._gap(latents, goal, i).norm(dim=-1) for i in numbers}
        return found | {f"sprite{i + 1}_deg": self._turn(latents, goal, i) for i in self.config.turning}

    def reaches(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Whether all things are where a goal shows them, `NEAR` and `TURNED`, [...]."""
        gaps = torch.cat([self._gap(latents, goal, i) for i in range(len(self.config.sprites))], dim=-1)
        reached: Tensor = gaps.norm(dim=-1) < 2 * UNITS * NEAR
        for i in self.config.turning:
            reached = reached & (self._turn(latents, goal, i) < TURNED)
        return reached

    def _gap(self, latents: Tensor, goal: Tensor, sprite: int) -> Tensor:
        """Between a sprite's places, latent units, [..., 2]."""
        first = self.config.place(sprite)
        return latents[..., first : first + 2] - goal[..., first : first + 2]

    def _turn(self, latents: Tensor, goal: Tensor, sprite: int) -> Tensor:
        """Angle between a sprite's headings, degrees; a thing of symmetry n looks the same after an n-th of a turn."""
        first = self.config.heading(sprite)
        angles = [torch.atan2(z[..., first + 1], z[..., first]) for z in (latents, goal)]
        apart = torch.remainder(angles[0] - angles[1] + torch.pi, 2 * torch.pi) - torch.pi
        return torch.rad2deg(apart).abs() / self.config.sprites[sprite].symmetry
