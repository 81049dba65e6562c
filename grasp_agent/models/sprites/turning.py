"""Vectors turned in the plane of the picture, x to the right and y down."""

from __future__ import annotations

import torch
from torch import Tensor


def turned_by(vectors: Tensor, angles: Tensor) -> Tensor:
    """Vectors [..., 2] turned from x to y by angles [...]."""
    cos, sin = angles.cos(), angles.sin()
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)


def axis_of(headings: Tensor, symmetry: int) -> Tensor:
    """Unit vectors [..., 2] along the own axis of a thing, from its headings (cos n a, sin n a), n its symmetry."""
    if symmetry == 1:
        return headings
    angles = torch.atan2(headings[..., 1], headings[..., 0]) / symmetry
    return torch.stack([angles.cos(), angles.sin()], dim=-1)
