"""Poses of a pusher and a body in the plane as latents of layout "planar_push", and errors in pixels and degrees.

A simulator state is (pusher x, y; body x, y; angle; ...) in pixels and radians. As a latent it is measured from
the arena's centre in units of `UNIT` = 20 px, and the angle is a vector of length `RADIUS`: one radian of turn
weighs as much as 57.3 px, so that the two tolerances of the goal-reaching task, 20 px and pi / 9, are both a
latent distance of 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNIT = 20.0
CENTRE = 255.5
RADIUS = float(9.0 / np.pi)
TOLERANCE_DEG = 20.0
"""Of the goal-reaching task, beside `UNIT` pixels."""
PUSHER_WEIGHT = 0.03
"""Of the pusher's place in the distance to a goal, the body's counting 1: where the pusher stands is soon mended, and a
plan that must not leave its place never walks round the body."""


def latents_of_states(states: NDArray[np.float64]) -> NDArray[np.float32]:
    """Simulator states [..., 5 or more] -> latents [..., 6]."""
    position = (states[..., 0:4] - CENTRE) / UNIT
    angle = states[..., 4:5]
    return np.concatenate([position, RADIUS * np.cos(angle), RADIUS * np.sin(angle)], axis=-1).astype(np.float32)


def pose_errors(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Errors between latents [..., 6]: "pusher_px", "body_px" and "body_deg", each [...]."""
    cross = predicted[..., 4] * true[..., 5] - predicted[..., 5] * true[..., 4]
    dot = predicted[..., 4] * true[..., 4] + predicted[..., 5] * true[..., 5]
    return {
        "pusher_px": (predicted[..., 0:2] - true[..., 0:2]).norm(dim=-1) * UNIT,
        "body_px": (predicted[..., 2:4] - true[..., 2:4]).norm(dim=-1) * UNIT,
        "body_deg": torch.rad2deg(torch.atan2(cross, dot).abs()),
    }


def reaches(latents: Tensor, goal: Tensor) -> Tensor:
    """Whether latents [..., 6] meet the goal-reaching task's test of success, as booleans [...].

    It is the environment's: the norm of the four position errors is below 20 px, the angle error below 20 degrees.
    """
    errors = pose_errors(latents, goal)
    position = torch.hypot(errors["pusher_px"], errors["body_px"])
    return (position < UNIT) & (errors["body_deg"] < TOLERANCE_DEG)


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


def positions(latents: Tensor) -> dict[str, Tensor]:
    """Places of "pusher" and "body" in pixels of the arena: latents [..., 6] -> [..., 2] each."""
    return {"pusher": latents[..., 0:2] * UNIT + CENTRE, "body": latents[..., 2:4] * UNIT + CENTRE}
