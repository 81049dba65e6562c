"""The last pixel's worth of a pose: Gauss-Newton steps on how well the sprites explain the picture.

With q the places and angles of all sprites, x the picture's difference from its background and D(q) the drawing,

    q <- q + (J'J + damping)^-1 J' (x - D(q)),      J = dD / dq.

A sprite that moves takes its picture along, so the columns of J are differences between neighbouring pixels of the
drawing: no further drawing is needed for them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_agent.models.latent.encoders import coordinate_grid
from grasp_agent.models.sprites.decoder import SpriteDecoder, over
from grasp_agent.models.sprites.turning import turned_by

STEPS = 2
DAMPING = 0.01
"""Of a diagonal entry of J'J."""
LEAST = 1e-3
"""Added to the diagonal, so that a sprite that is out of the picture stays where it is."""
ROWS = 8
"""Pictures refined at a time: so few that they stay in the processor's cache."""
FARTHEST = 0.05, 0.2
"""Limits of one step: places in half-pictures, angles in radians. A pose is refined, not searched."""


@torch.no_grad()
def refined(
    decoder: SpriteDecoder, picture: Tensor, background: Tensor, places: Tensor, headings: Tensor
) -> tuple[Tensor, Tensor]:
    """Places and headings that explain the picture better.

    Args:
        decoder: draws.
        picture: x, [B, C, n, n].
        background: what lies under the sprites, [B, C, n, n].
        places: from the encoder, in half-pictures, [B, S, 2].
        headings: unit vectors, [B, S, 2].

    Returns:
        Places [B, S, 2] and headings [B, S, 2]; those given, in rows where a step made the drawing worse.
    """
    if len(picture) > ROWS:
        parts = zip(*(x.split(ROWS) for x in (picture, background, places, headings)), strict=True)
        done = [refined(decoder, *part) for part in parts]
        return torch.cat([p for p, _ in done]), torch.cat([h for _, h in done])
    symmetries = torch.tensor(decoder.symmetries, device=places.device)
    turning = torch.nonzero(symmetries).flatten()
    first, first_error = (places, headings), places.new_zeros(0)
    for step in range(STEPS + 1):
        pages = decoder.pages(places, headings, picture.shape[-1])
        gap = picture - over(pages, background).sum(1)
        error = gap.square().sum((1, 2, 3))
        if step == 0:
            first_error = error
        if step == STEPS:
            break
        moves = _solved(_jacobian(pages, background, places, turning), gap)
        shift, angle = moves[:, : 2 * len(symmetries)], moves[:, 2 * len(symmetries) :]
        places = places + shift.clamp(-FARTHEST[0], FARTHEST[0]).view_as(places)
        turned = turned_by(headings[:, turning], angle.clamp(-FARTHEST[1], FARTHEST[1]) * symmetries[turning])
        headings = headings.index_copy(1, turning, turned)
    better = (error <= first_error)[:, None, None]
    return torch.where(better, places, first[0]), torch.where(better, headings, first[1])


def _jacobian(pages: Tensor, background: Tensor, places: Tensor, turning: Tensor) -> Tensor:
    """dD / dq of pages [B, S, C + 1, n, n]: by x and y of all places, then by the angles, [B, columns, C * n * n]."""
    rows, sprites, channels, n = pages.shape[:4]
    columns = pages.new_zeros(rows, 2 * sprites + len(turning), channels - 1, n, n)
    moved = columns[:, : 2 * sprites].unflatten(1, (sprites, 2))
    scale = n / 4  # neighbours of a pixel are 4 / n apart
    moved[:, :, 0, ..., 1:-1] = over((pages[..., :-2] - pages[..., 2:]) * scale, background[..., 1:-1])
    moved[:, :, 1, ..., 1:-1, :] = over((pages[..., :-2, :] - pages[..., 2:, :]) * scale, background[..., 1:-1, :])
    offsets = coordinate_grid(n).to(places) - places[:, turning, :, None, None]  # [B, turning, 2, n, n]
    x, y = offsets.unsqueeze(3).unbind(2)
    columns[:, 2 * sprites :] = x * moved[:, turning, 1] - y * moved[:, turning, 0]
    return columns.flatten(2)


def _solved(jacobian: Tensor, gap: Tensor) -> Tensor:
    """The damped least-squares moves [B, columns]."""
    normal = jacobian @ jacobian.transpose(1, 2)
    damping = torch.diag_embed(DAMPING * normal.diagonal(dim1=1, dim2=2) + LEAST)
    moves: Tensor = torch.linalg.solve(normal + damping, jacobian @ gap.flatten(1).unsqueeze(2)).squeeze(2)
    return moves
