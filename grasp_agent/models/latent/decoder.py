"""Decoder from latent states to images: for looking at plans, and for the reconstruction loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.encoders import coordinate_grid


class FrameDecoder(nn.Module):
    """Latent vectors [B, in_features] -> images in 0..1, [B, size, size, 3].

    The latent places K frames of reference in the image, each with a centre c_k and a matrix A_k (rotation, scale,
    shear); every pixel x then sees its coordinates in all of them, A_k (x - c_k), and a small network per pixel
    paints what it sees there. Moving or turning a thing is moving or turning its frame, which makes rigid bodies
    easy (capsule frames as in Hinton et al., 2011, with an implicit image as in Mescheder et al., arXiv 1812.03828).
    """

    coordinates: Tensor

    def __init__(self, image_size: int, channels: int, hidden: int, in_features: int, frames: int = 8) -> None:
        super().__init__()
        width = 4 * channels
        self.register_buffer("coordinates", coordinate_grid(image_size // 2).flatten(1), persistent=False)
        self.frames = frames
        self.place = nn.Linear(in_features, 6 * frames)
        last = nn.Linear(hidden, 6 * frames)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.refine = nn.Sequential(nn.Linear(in_features, hidden), nn.SiLU(), last)
        self.paint = nn.Sequential(
            nn.Linear(6 * frames, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 12),
        )

    def forward(self, latents: Tensor) -> Tensor:
        numbers = (self.place(latents) + self.refine(latents)).view(-1, self.frames, 6)
        centres, matrices = numbers[..., 0:2, None], 4.0 * numbers[..., 2:6].unflatten(-1, (2, 2))
        seen = matrices @ (self.coordinates - centres)  # [B, K, 2, pixels]
        seen = torch.cat([seen, (torch.pi * seen).sin(), (torch.pi * seen).cos()], dim=2)
        size = int(self.coordinates.shape[-1] ** 0.5)
        painted = self.paint(seen.flatten(1, 2).transpose(1, 2)).transpose(1, 2)
        image = functional.pixel_shuffle(painted.unflatten(2, (size, size)), 2)
        image = image.permute(0, 2, 3, 1) + 0.5
        # clamped as seen, not for the gradient: a sigmoid would hardly learn rare things on a white background
        return image + (image.clamp(0.0, 1.0) - image).detach()
