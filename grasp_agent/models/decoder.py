"""Decoder from latent states to images: for looking at plans, and for the reconstruction loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.encoders import coordinate_grid


class ConvDecoder(nn.Module):
    """Latent vectors [B, in_features] -> images in 0..1, [B, size, size, 3].

    A latent is turned into `sprites` soft blobs-with-features by a small MLP, broadcast with coordinates on a coarse grid
    (Watters et al., 2019, arXiv 1901.07017) and upsampled by convolutions.
    """

    coordinates: Tensor

    def __init__(self, image_size: int, channels: int, hidden: int, in_features: int) -> None:
        super().__init__()
        c = channels
        self.register_buffer("coordinates", coordinate_grid(image_size // 4), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 4 * c),
        )
        self.mix = nn.Sequential(
            nn.Conv2d(4 * c + 2, 4 * c, 1),
            nn.SiLU(),
            nn.Conv2d(4 * c, 4 * c, 1),
            nn.SiLU(),
            nn.Conv2d(4 * c, 2 * c, 1),
        )
        self.middle = nn.Conv2d(2 * c, 2 * c, 3, padding=1)
        self.fine = nn.Conv2d(2 * c, c, 3, padding=1)
        self.rgb = nn.Conv2d(c, 12, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        size = self.coordinates.shape[-1]
        x = self.embed(latents)[:, :, None, None].expand(-1, -1, size, size)
        x = torch.cat([x, self.coordinates.expand(len(x), -1, -1, -1)], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = functional.silu(self.middle(functional.silu(self.mix(x))))
        x = functional.silu(self.fine(functional.interpolate(x, scale_factor=2.0, mode="bilinear")))
        x = functional.pixel_shuffle(self.rgb(x), 2)
        return x.sigmoid().permute(0, 2, 3, 1)
