"""Vision encoders: uint8 frames [B, height, width, 3] -> features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def coordinate_grid(size: int) -> Tensor:
    """Pixel-centre coordinates of a size x size grid in (-1, 1): [2, size, size], x (to the right) first, then y."""
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y])


class SpatialSoftmax(nn.Module):
    """Expected image coordinates of each channel's softmax: keypoints (Levine et al., 2016, arXiv 1504.00702).

    [B, K, size, size] -> [B, 2 K]. A learned temperature per channel lets a keypoint be as sharp as sub-pixel
    accuracy asks.
    """

    grid: Tensor

    def __init__(self, keypoints: int, size: int) -> None:
        super().__init__()
        # starting sharp matters: from flat maps every keypoint begins at the image's centre and learns slowly
        self.log_temperature = nn.Parameter(torch.full((keypoints, 1), math.log(10.0)))
        self.register_buffer("grid", coordinate_grid(size).flatten(1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        weights = functional.softmax(maps.float().flatten(2) * self.log_temperature.exp(), dim=-1)
        return (weights @ self.grid.T).flatten(1)


class Pyramid(nn.Module):
    """Three scales of convolutional features, the coarser ones merged into the finer ones.

    Args:
        channels_in: of the picture.
        channels: of the finest scale.
        stride: of the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Conv2d(channels_in, c, 5, stride=stride, padding=2)
        self.fine = _conv(c, c)
        self.down1 = _conv(c, 2 * c, stride=2)
        self.down2 = _conv(2 * c, 4 * c, stride=2)
        self.coarse = _conv(4 * c, 4 * c)
        self.up2 = nn.Conv2d(4 * c, 2 * c, 1)
        self.up1 = nn.Conv2d(2 * c, c, 1)

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, channels_in, n, n] -> the finest features and those of half their side."""
        fine = self.fine(functional.silu(self.stem(pictures.contiguous(memory_format=torch.channels_last))))
        middle = self.down1(fine)
        coarse = self.coarse(self.down2(middle))
        middle = functional.silu(middle + functional.interpolate(self.up2(coarse), scale_factor=2.0))
        fine = functional.silu(fine + functional.interpolate(self.up1(middle), scale_factor=2.0))
        return fine, middle


class ConvEncoder(Pyramid):
    """Convolutional keypoint encoder: three scales of features merged into the finest, spatial softmax, a small MLP.

    Input: uint8 or float frames [B, size, size, 3] in 0..255. Output: [B, out_features].

    Coordinate channels (Liu et al., 2018, arXiv 1807.03247) and the spatial softmax make position easy to read
    out, which is what planning needs: a plan is as exact as the encoder's idea of where things are.
    """

    coordinates: Tensor

    def __init__(self, image_size: int, channels: int, keypoints: int, hidden: int, out_features: int) -> None:
        if image_size % 8:
            raise ValueError(f"image_size: expected a multiple of 8, got {image_size}; try 64 or 96")
        super().__init__(5, channels, stride=2)
        self.register_buffer("coordinates", coordinate_grid(image_size), persistent=False)
        self.maps = nn.Conv2d(channels, keypoints, 3, padding=1)
        self.keypoints = SpatialSoftmax(keypoints, image_size // 2)
        self.head = nn.Sequential(
            nn.Linear(2 * keypoints, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, out_features),
        )

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 3, 1, 2).to(self.coordinates.dtype) / 127.5 - 1.0
        x = torch.cat([x, self.coordinates.expand(len(x), -1, -1, -1)], dim=1)
        fine, _ = self.features(x)
        head: Tensor = self.head(self.keypoints(self.maps(fine)))
        return head


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    groups = 4 if channels_out % 4 == 0 else 1
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1),
        nn.GroupNorm(groups, channels_out),
        nn.SiLU(),
    )
