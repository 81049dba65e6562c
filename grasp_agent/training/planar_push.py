"""What training knows of planar pushing: the symmetries of the arena, for latents of layout "planar_push"."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def random_symmetry(states: Tensor, actions: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn the square arena by a multiple of 90 degrees and mirror it, each row its own way.

    The body is its own mirror image, and walls and pusher look the same from all sides, so the physics does not change.

    Args:
        states: latents [B, W, 6].
        actions: [B, W, 2].
        generator: draws the symmetry.
    """
    rows = len(states)
    turn = torch.as_tensor(generator.integers(0, 4, rows)) * (torch.pi / 2)
    mirror = torch.as_tensor(generator.integers(0, 2, rows)).float() * 2.0 - 1.0
    cos, sin = turn.cos(), turn.sin()
    rotate = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # [B, 2, 2], column vectors
    flip = torch.stack([mirror, torch.ones_like(mirror)], -1)[:, None, :]  # x changes sign
    flip_heading = torch.stack([torch.ones_like(mirror), mirror], -1)[:, None, :]  # the angle changes sign

    def apply(vectors: Tensor, sign: Tensor) -> Tensor:
        return (vectors * sign) @ rotate.transpose(1, 2)

    moved = [
        apply(states[..., 0:2], flip),
        apply(states[..., 2:4], flip),
        apply(states[..., 4:6], flip_heading),
    ]
    return torch.cat(moved, -1), apply(actions, flip)
