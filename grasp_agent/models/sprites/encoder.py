"""Where each sprite is and how it is turned, from what differs from the background."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.encoders import Pyramid, coordinate_grid

CORRECTION = 0.1
"""Farthest that a sprite's place may lie from the mean of its attention, in half-pictures."""


class PoseEncoder(Pyramid):
    """Difference and background [B, 2 C, n, n] -> places [B, S, 2] in half-pictures, headings [B, S, 2].

    Convolutions without coordinate channels see the same thing alike wherever it is. A softmax over the picture
    finds each sprite; the features under it tell a small correction of its place, and its heading (a unit vector).

    Args:
        colours: C.
        channels: of the finest scale.
        size: that pictures are averaged down to before the convolutions; n is a multiple of it.
        sprites: S.
    """

    grid: Tensor

    def __init__(self, colours: int, channels: int, size: int, sprites: int) -> None:
        super().__init__(2 * colours, channels, stride=1)
        self.size = size
        self.maps = nn.Conv2d(channels, sprites, 3, padding=1)
        self.log_temperature = nn.Parameter(torch.full((sprites, 1), math.log(3.0)))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(3 * channels, 64), nn.SiLU(), nn.Linear(64, 4)) for _ in range(sprites)
        )
        self.register_buffer("grid", coordinate_grid(size).flatten(1), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        pictures = functional.avg_pool2d(pictures, pictures.shape[-1] // self.size)
        fine, middle = self.features(pictures)
        maps = self.maps(fine).float()
        weights = functional.softmax(maps.flatten(2) * self.log_temperature.exp(), dim=-1)
        coarser = functional.avg_pool2d(weights.view_as(maps), 2).flatten(2) * 4
        found = [_under(weights, fine), _under(coarser, middle)]
        features = torch.cat(found, dim=-1)  # [B, S, 3 c]
        told = torch.stack([head(features[:, i]) for i, head in enumerate(self.heads)], dim=1)
        places = weights @ self.grid.T + CORRECTION * torch.tanh(told[..., 2:])
        return places, functional.normalize(told[..., :2], dim=-1, eps=1e-4)


def _under(weights: Tensor, features: Tensor) -> Tensor:
    """Features [B, c, n, n] averaged with weights [B, S, n * n]: [B, S, c]."""
    return weights @ features.flatten(2).transpose(1, 2).float()
