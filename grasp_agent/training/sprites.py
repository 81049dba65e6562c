"""Stage 1 of sprites: poses and looks of the things, from pictures alone.

    loss = drawing + 20 | place' - R place |^2 + | heading' - R^n heading |^2 + 2 (1 - heading . best)
           + 20 max(0, | place - spot | - slack)^2

Drawing: squared error between the picture and the sprites drawn at the encoder's places, at several scales, a coarse
one weighing more, since a sprite that is drawn beside its thing learns only from where both overlap. Equivariance: a
frame turned by a random angle R must be read as the same poses turned. Best: a heading can settle on a wrong optimum,
such as a Y for a T; so the picture is tried with each sprite at `TURNS` headings, and the best of them draws the frame
and teaches the encoder.

Frames that show each thing as a spot of its own (survey.py) lead the sprites to their things, and keep them there: once
they have settled, a place may lie `SLACK` beside the centre of its spot. Then, too, equivariance is asked of one sprite
in a frame from which the others, as they are drawn, have been taken away: else the heading of one follows the place of
another.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.sprites.model import SpritesModel
from grasp_agent.models.sprites.turning import turned_by
from grasp_agent.training.loop import Batch, Losses
from grasp_agent.training.survey import Survey

SCALES, GAIN = 4, 2.0
"""Halvings of the picture in the drawing error, and how much more each weighs than the one before."""
SLACK = 0.06
"""How far a place may lie from the centre of its spot, in half-pictures, once sprites are on their things."""
TURNS = 12
SETTLED = 0.12
"""Share of the stage after which sprites are on their things."""
INSIDE = 0.85
"""How far from the centre, in half-pictures, a turned place may lie to be still in the picture."""


class SpritesTask:
    """Batches and losses of stage 1.

    Args:
        model: its encoder and decoder are trained.
        data: frames.
        frames: numbers of the frames to train on.
        found: frames that show every thing apart.
        batch: frames per step.
    """

    def __init__(
        self, model: SpritesModel, data: EpisodeDataset, frames: NDArray[np.int64], found: Survey, batch: int
    ) -> None:
        self.model = model
        self.data = data
        self.frames = frames
        self.found = found
        self.batch = batch
        self.module = nn.ModuleList([model.encoder, model.decoder])
        self.turning = model.config.turning
        self.symmetry = torch.tensor([max(sprite.symmetry, 1) for sprite in model.config.sprites])

    def draw(self, generator: np.random.Generator) -> Batch:
        third, half = (max(1, self.batch // parts) for parts in (3, 2))
        examples = generator.integers(len(self.found.examples), size=third)
        others = generator.choice(self.frames, self.batch - third)
        images = torch.from_numpy(self.data.frames(np.concatenate([others, self.found.examples[examples]])))
        angles = torch.from_numpy(generator.uniform(0, 2 * math.pi, half).astype(np.float32))
        chosen = torch.from_numpy(generator.integers(len(self.symmetry), size=half))
        return images, torch.from_numpy(self.found.places[examples]), angles, chosen

    def losses(self, batch: Batch, progress: float) -> Losses:
        images, spots, angles, chosen = batch
        settled, half = progress >= SETTLED, len(angles)
        picture, background = self.model.difference(images)
        places, headings = self.model.encoder(torch.cat([picture, background], dim=1))
        terms: Losses = {}
        loss = picture.new_zeros(())
        best = headings
        gap = (places[-len(spots) :] - spots).norm(dim=-1)
        terms["spots"] = (gap - (SLACK if settled else 0.0)).relu().square().sum(1).mean()
        loss = loss + 20 * terms["spots"]
        if settled and self.turning:
            best, wrong = self._best_headings(picture, background, places, headings)
            amiss = (1 - (headings * best.detach()).sum(-1))[:, list(self.turning)].sum(1).mean()
            terms["wrong_turns"] = wrong
            loss = loss + 2.0 * amiss
        layers = self.model.decoder(places, best, background)
        terms["drawing"] = (layers.sum(1) - picture).square().mean()
        terms["equivariance"] = self._equivariance(
            picture[:half], background[:half], places[:half], headings[:half], layers[:half].detach(), angles,
            chosen if settled else None,
        )  # fmt: skip
        return {"loss": loss + multiscale(layers.sum(1) - picture) + terms["equivariance"], **terms}

    def _best_headings(
        self, picture: Tensor, background: Tensor, places: Tensor, headings: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Headings [B, S, 2], each turned to where its sprite explains most of the picture, and the share turned."""
        rows, drawn = len(picture), list(headings.unbind(1))
        picture, background = (functional.avg_pool2d(x, 2) for x in (picture, background))  # enough to tell turns
        tried = torch.arange(TURNS, device=places.device) * (2 * math.pi / TURNS)
        turned = torch.zeros((), device=places.device)
        with torch.no_grad():
            layers = self.model.decoder(places, headings, background)
            many = turned_by(headings.repeat_interleave(TURNS, 0), tried.repeat(rows)[:, None])
        for i in self.turning:
            with torch.no_grad():
                left = picture - layers.sum(1) + layers[:, i]
                shown = self.model.decoder(
                    places.repeat_interleave(TURNS, 0), many, background.repeat_interleave(TURNS, 0), only=i
                )
                gaps = functional.avg_pool2d(left.repeat_interleave(TURNS, 0) - shown[:, 0], 2)
                errors = gaps.square().mean((1, 2, 3)).view(rows, TURNS)
                errors[:, 0] *= 0.99  # of two that look alike, the encoder's own
                choice = errors.argmin(1)
            drawn[i] = turned_by(headings[:, i], tried[choice])
            turned = turned + (choice != 0).float().mean() / len(self.turning)
        return torch.stack(drawn, dim=1), turned

    def _equivariance(
        self, picture: Tensor, background: Tensor, places: Tensor, headings: Tensor, layers: Tensor, angles: Tensor,
        chosen: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Error of the poses read from turned frames, over all sprites or in each row of a chosen one."""
        counts = torch.ones(places.shape[:2], device=places.device)
        if chosen is not None:
            counts = functional.one_hot(chosen, places.shape[1]).to(places)
            picture = picture - ((1 - counts)[:, :, None, None, None] * layers).sum(1)
        seen: tuple[Tensor, Tensor] = self.model.encoder(
            turned_pictures(torch.cat([picture, background], dim=1), angles)
        )
        wanted = turned_by(places, angles[:, None])
        heading = turned_by(headings, angles[:, None] * self.symmetry.to(places))
        counts = counts * (wanted.detach().abs().amax(-1) < INSIDE)
        turns = counts * torch.zeros_like(counts).index_fill(1, torch.tensor(self.turning, dtype=torch.long), 1.0)
        return (
            20 * (counts * (wanted - seen[0]).square().sum(-1)).sum(1).mean()
            + (turns * (heading - seen[1]).square().sum(-1)).sum(1).mean()
        )


def multiscale(error: Tensor) -> Tensor:
    """Mean square of an error [B, C, n, n], plus that of its averages over 2, 4, ... pixels, each weighing more."""
    total = error.square().mean() / GAIN
    for scale in range(SCALES):
        error = functional.avg_pool2d(error, 2)
        total = total + GAIN**scale * error.square().mean()
    return total


def turned_pictures(pictures: Tensor, angles: Tensor) -> Tensor:
    """Pictures [B, C, n, n] turned about their centre as `turned_by` turns places; what comes from outside is 0."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    back = torch.stack([torch.stack([cos, sin, zero], 1), torch.stack([-sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(back, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)
