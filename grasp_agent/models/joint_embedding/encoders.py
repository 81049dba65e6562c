"""Vision encoders: images [B, 3, size, size] -> one latent, a vector [B, D] or a grid of cells [B, P, D].

The last layer is batch normalisation without parameters of its own: latents have mean 0 and deviation 1 over the data,
so that losses on them have one scale, and a latent cannot shrink to a point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.joint_embedding.config import JointEmbeddingConfig
from grasp_agent.models.latent.encoders import coordinate_grid


def make_encoder(config: JointEmbeddingConfig) -> nn.Module:
    """The encoder that a config asks for."""
    trunk = ConvTrunk(config) if config.encoder == "conv" else ViTTrunk(config)
    if config.grid:
        return nn.Sequential(trunk, GridHead(trunk.width, config))
    head = ConvVectorHead if config.head_channels else VectorHead
    return nn.Sequential(trunk, head(trunk.width, config))


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), normalised by groups; the second convolution starts at zero.

    [B, C, H, W] -> the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = max(1, channels // 16)
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.net = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.net(x)
        return result


class ConvTrunk(nn.Module):
    """Images [B, 3, size, size] -> maps [B, width, cells, cells]: halved and widened until a cell is `patch` pixels."""

    coordinates: Tensor

    def __init__(self, config: JointEmbeddingConfig) -> None:
        super().__init__()
        self.register_buffer("coordinates", coordinate_grid(config.input_size), persistent=False)
        channels = config.encoder_width
        layers: list[nn.Module] = [nn.Conv2d(5, channels, 5, stride=2, padding=2), ResidualBlock(channels)]
        for _ in range(config.patch.bit_length() - 2):
            layers += [nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), ResidualBlock(2 * channels)]
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(config.encoder_depth - 1)]
        self.net = nn.Sequential(*layers)
        self.width = channels

    def forward(self, images: Tensor) -> Tensor:
        x = torch.cat([images, self.coordinates.to(images.dtype).expand(len(images), -1, -1, -1)], dim=1)
        maps: Tensor = self.net(x)
        return maps


class ViTTrunk(nn.Module):
    """Images [B, 3, size, size] -> maps [B, width, cells, cells]: patches, attention between them, layer norm.

    Source: Dosovitskiy et al., arXiv 2010.11929; without the class token, whose place the head's pooling takes.
    """

    def __init__(self, config: JointEmbeddingConfig) -> None:
        super().__init__()
        self.width = width = config.encoder_width
        self.patches = nn.Conv2d(3, width, config.patch, stride=config.patch)
        self.place = nn.Parameter(0.02 * torch.randn(config.cells**2, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.encoder_heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images)
        x = patches.flatten(2).transpose(1, 2) + self.place
        for layer in self.layers:
            x = layer(x)
        maps: Tensor = self.norm(x).transpose(1, 2).unflatten(2, patches.shape[2:])
        return maps


class VectorHead(nn.Module):
    """Maps [B, width, cells, cells] -> latents [B, D]: few channels of every cell, then two layers."""

    def __init__(self, width: int, config: JointEmbeddingConfig) -> None:
        super().__init__()
        kept, hidden = 16, 512
        self.net = nn.Sequential(
            nn.Conv2d(width, kept, 1),
            nn.Flatten(),
            nn.Linear(kept * config.cells**2, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, config.state_size),
            nn.BatchNorm1d(config.state_size, affine=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        latents: Tensor = self.net(maps)
        return latents


class ConvVectorHead(nn.Module):
    """Maps [B, width, cells, cells] -> latents [B, D]: a grid of cells, two convolutions over it, then two layers.

    `cells` is what `GridHead` makes of the maps, before they are put in rows. So a vector can be learnt on the cells of
    a grid that is there already (benchmarks/vector_head.py).
    """

    def __init__(self, width: int, config: JointEmbeddingConfig) -> None:
        super().__init__()
        channels, kept, hidden = config.head_channels, config.head_channels // 2, 512
        self.cells = nn.Sequential(nn.Conv2d(width, kept, 1), nn.BatchNorm2d(kept, affine=False))
        self.net = nn.Sequential(
            nn.Conv2d(kept, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, kept, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(kept * config.cells**2, hidden),
            nn.SiLU(),
            nn.Linear(hidden, config.state_size),
            nn.BatchNorm1d(config.state_size, affine=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        latents: Tensor = self.net(self.cells(maps))
        return latents


class GridHead(nn.Module):
    """Maps [B, width, cells, cells] -> latents [B, P, D], row by row of the image."""

    def __init__(self, width: int, config: JointEmbeddingConfig) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, config.state_size, 1)
        self.norm = nn.BatchNorm2d(config.state_size, affine=False)

    def forward(self, maps: Tensor) -> Tensor:
        cells: Tensor = self.norm(self.project(maps))
        return cells.flatten(2).transpose(1, 2)


class ColourWhitening(nn.Module):
    """uint8 frames [B, H, W, 3] -> images [B, 3, size, size] whose colours have mean 0 and covariance about I.

    A small thing in a rare colour then counts as much as a large one. Fitted to the data (`fit`), and saved.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("matrix", 2.0 * torch.eye(3))

    @torch.no_grad()
    def fit(self, frames: Tensor, floor: float = 0.1) -> None:
        """Principal components of the colours in `frames` [N, H, W, 3], each over its deviation.

        Args:
            frames: uint8.
            floor: least deviation that counts, as a share of the largest; what is below is noise.
        """
        colours = frames.flatten(0, 2).double() / 255
        values, vectors = torch.linalg.eigh(torch.cov(colours.T))
        deviation = values.clamp_min(0).sqrt()
        deviation = deviation.clamp_min(floor * float(deviation.max()) + 1e-3)
        self.mean.copy_(colours.mean(0))
        self.matrix.copy_((vectors / deviation).T)

    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):  # what is lost here no later layer can find again
            colours = (frames.to(self.mean.dtype) / 255 - self.mean) @ self.matrix.T
            images = colours.permute(0, 3, 1, 2)
            if images.shape[-1] != self.size:
                images = functional.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
            return images

    def colours(self, images: Tensor) -> Tensor:
        """The way back, without resizing: images [B, 3, H, W] -> colours in 0..1, [B, H, W, 3]."""
        back = torch.linalg.inv(self.matrix)
        colours: Tensor = images.permute(0, 2, 3, 1) @ back.T + self.mean
        return colours
