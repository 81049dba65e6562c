"""Learned sprites, moved and turned: what differs from the background, drawn from places and headings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.encoders import coordinate_grid
from grasp_agent.models.sprites.config import SpritesConfig
from grasp_agent.models.sprites.turning import axis_of

GAIN = 20.0
"""Templates are stored divided by this, so that Adam moves them so many times faster than other weights; at the
others' speed they hardly move."""

MARGIN = 1.1
"""Side of a template over the diameter of its sprite."""

SOFT = 0.04
"""Room for the blurred edge of small sprites, in half-pictures."""


class SpriteDecoder(nn.Module):
    """Places and headings [B, S, 2] -> each sprite's part of the difference from the background, [B, S, C, n, n].

    A template holds colour and cover in whitened colours. Over a background b (see `Difference`) a sprite shows

        colour(u) - cover(u) b(p),      u = R(-a) (p - place) / reach,

    so that it hides what lies under it. Differences of several sprites add up.
    """

    scales: Tensor
    window: Tensor

    def __init__(self, config: SpritesConfig) -> None:
        super().__init__()
        self.symmetries = [sprite.symmetry for sprite in config.sprites]
        side, count = config.template, len(config.sprites)
        self.templates = nn.Parameter(torch.randn(count, config.colours, side, side) * (0.3 / GAIN))
        self.cover = nn.Parameter(torch.zeros(count, 1, side, side))
        reach = torch.tensor([MARGIN * sprite.radius + SOFT for sprite in config.sprites])
        self.register_buffer("scales", (1 / reach).view(1, -1, 1, 1), persistent=False)
        distance = coordinate_grid(side).norm(dim=0)
        self.register_buffer("window", torch.sigmoid((0.95 - distance) * 20), persistent=False)

    def forward(self, places: Tensor, headings: Tensor, background: Tensor, only: int | None = None) -> Tensor:
        """Draw all sprites, or one.

        Args:
            places: centres in half-pictures, [B, S, 2].
            headings: unit vectors, [B, S, 2]; those of disks do not matter.
            background: b, [B, C, n, n].
            only: the number of the sprite to draw.
        """
        return over(self.pages(places, headings, background.shape[-1], only), background)

    def pages(self, places: Tensor, headings: Tensor, n: int, only: int | None = None) -> Tensor:
        """Colour and cover of the sprites where they lie in a picture of side n, [B, S, C + 1, n, n]."""
        chosen = slice(None) if only is None else slice(only, only + 1)
        places, headings = places[:, chosen], headings[:, chosen]
        rows, sprites = places.shape[:2]
        grid = coordinate_grid(n).to(places).flatten(1).T
        offsets = (grid - places.unsqueeze(2)) * self.scales[:, chosen]  # [B, S, n * n, 2]
        cos, sin = self._axes(headings, chosen).unsqueeze(2).unbind(-1)
        x, y = offsets[..., 0], offsets[..., 1]
        seen = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
        pages = torch.cat([self.templates, self.cover], dim=1)[chosen] * (GAIN * self.window)
        pages = pages.expand(rows, -1, -1, -1, -1).flatten(0, 1)
        drawn = functional.grid_sample(pages, seen.view(rows * sprites, n, n, 2), align_corners=False)
        return drawn.view(rows, sprites, -1, n, n)

    def _axes(self, headings: Tensor, chosen: slice) -> Tensor:
        """Unit vectors along the chosen sprites' own axes, [B, S, 2]; along x for a disk."""
        still = torch.eye(2, device=headings.device, dtype=headings.dtype)[0].expand(len(headings), 2)
        axes = [axis_of(headings[:, i], n) if n else still for i, n in enumerate(self.symmetries[chosen])]
        return torch.stack(axes, dim=1)


def over(pages: Tensor, background: Tensor) -> Tensor:
    """What pages [..., C + 1, n, n] of colour and cover show over a background [B, C, n, n], as far as it differs."""
    return pages[..., :-1, :, :] - pages[..., -1:, :, :] * background.view(
        len(background), *(1,) * (pages.ndim - 4), *background.shape[1:]
    )
