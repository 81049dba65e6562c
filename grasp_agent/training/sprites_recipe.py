"""The recipe "sprites": things that move over a still background, from frames and actions alone (sprites.py)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.files.atomic import replacing
from grasp_agent.models.sprites.config import SpritesConfig
from grasp_agent.models.sprites.decoder import over
from grasp_agent.models.sprites.model import SpritesModel
from grasp_agent.training.heads import HeadsRecipe, heads_for
from grasp_agent.training.latent import later_stages, report_on
from grasp_agent.training.loop import Stage
from grasp_agent.training.recipe import RecipeStage, Run, register_recipe, task_of
from grasp_agent.training.sprites import SpritesTask
from grasp_agent.training.survey import survey

MOST, NEARLY_ALL = 0.9, 0.99
"""Shares of the data's actions; one of them lies within the model's action limit, see `covered`."""
RARE = 0.5
"""Actions are rare where there are fewer of them, for the same range of sizes, than this share of what most are."""

HUBER = 0.02
"""Errors of the dynamics up to a 1250th of a picture count squared: fine pushes are about as small."""


def covered(sizes: NDArray[np.floating[Any]]) -> float:
    """How large an action the data cover: of larger ones a model has seen too few.

    Nearly all sizes are covered where large ones are as frequent as others, as random actions are up to their bound.
    Where the largest are rare, as with an expert that hardly ever hurries, only most sizes are.

    Args:
        sizes: largest number in each action, [N].
    """
    most, nearly_all = (float(x) for x in np.quantile(sizes, (MOST, NEARLY_ALL)))
    rare = (NEARLY_ALL - MOST) * most < RARE * MOST * (nearly_all - most)  # as densities, without their denominators
    return most if rare else nearly_all


@dataclass(frozen=True)
class SpritesRecipe(HeadsRecipe):
    """How a `SpritesModel` is trained. Number, sizes and symmetries of its sprites are found in the data.

    Attributes:
        dynamics_hidden: width of the dynamics networks.
        proposal_hidden: width of the network that proposes plans; 0 for none.
        encoder: schedule of stage 1; its batch counts frames.
        dynamics: schedule of stage 2; its batch counts windows.
        proposal: schedule of stage 3, if the model proposes plans.
        unroll: steps that the dynamics is rolled out in training.
    """

    dynamics_hidden: int = 256
    proposal_hidden: int = 256
    encoder: Stage = Stage("sprites", steps=2_500, batch=48, learning_rate=2e-3, clip=5.0)
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=256, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=8_000, batch=768, learning_rate=1e-3)
    unroll: int = 12

    def build(self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> SpritesModel:
        image_size = data.image_size  # vectors are refused here
        data.check_finite("actions", data.actions)
        data.windows(held_out, 2)
        data.windows(training, self.unroll + 1)
        moves = data.actions[data.windows(training, 2)]  # an episode's last action is none
        found = survey(data, training, self.seed)
        config = SpritesConfig(
            image_size=image_size,
            sprites=found.sprites,
            backgrounds=len(found.backgrounds),
            colours=found.whitening.shape[1],
            action_dim=moves.shape[1],
            action_scale=round(float(np.abs(moves).mean()) or 1.0, 4),
            action_limit=round(covered(np.abs(moves).max(1)), 4) or None,
            dynamics_hidden=self.dynamics_hidden,
            proposal_hidden=self.proposal_hidden,
            look_ahead=task_of(data).look_ahead,
            **self.heads(data),
        )
        model = SpritesModel(config)
        model.difference.set(torch.from_numpy(found.backgrounds), torch.from_numpy(found.whitening))
        return model

    def stages(self) -> tuple[RecipeStage, ...]:
        first = RecipeStage(self.encoder, "sprites and their poses", "frames", self._sprites_task)
        proposal = self.proposal if self.proposal_hidden else None
        later = later_stages(self.dynamics, proposal, self.unroll, symmetry=False, huber=HUBER)
        return first, *later, *self.head_stages()

    def _sprites_task(self, run: Run) -> SpritesTask:
        frames, found = run.data.frame_numbers(run.training), survey(run.data, run.training, self.seed)
        return SpritesTask(run.model, run.data, frames, found, self.encoder.batch)

    def report(self, run: Run) -> dict[str, Any]:
        save_sprites_picture(run.model, run.folder / "sprites.png")
        return {**report_on(run, self.dynamics.batch, None, self.seed), **self.head_metrics(run)}


@torch.no_grad()
def save_sprites_picture(model: SpritesModel, path: Path, tile: int = 144) -> None:
    """Draw every learned sprite twice, side by side: over the first background, and what it covers in black.

    Args:
        model: what draws them.
        path: picture to write.
        tile: height and width of each, pixels.
    """
    count, cpu = len(model.config.sprites), copy.deepcopy(model).cpu()
    middle = torch.zeros(1, count, 2)
    headings = torch.eye(2)[:1].expand(1, count, 2)
    tiles = []
    for sprite in range(count):
        pages = cpu.decoder.pages(middle, headings, cpu.config.image_size, only=sprite)
        shown = cpu.difference.frames(over(pages, cpu.difference.background()).sum(1))[0]
        cover = (1 - pages[0, 0, -1]).clamp(0, 1).unsqueeze(-1).expand(-1, -1, 3)
        around = min(0.99, 1.5 * cpu.config.sprites[sprite].radius)  # of half a picture
        tiles += [_middle(part, around, tile) for part in (shown, cover)]
    with replacing(path) as unfinished:
        Image.fromarray(np.concatenate(tiles, axis=1)).save(unfinished, format="png")


def _middle(picture: torch.Tensor, around: float, side: int) -> NDArray[np.uint8]:
    """The middle of a picture in 0..1 [n, n, 3], as far as `around` half-pictures from it, in `side` pixels."""
    half = len(picture) // 2
    reach = max(2, round(around * half))
    part = picture[half - reach : half + reach, half - reach : half + reach]
    pixels = Image.fromarray((255 * part.numpy()).round().astype(np.uint8))
    return np.asarray(pixels.resize((side, side), Image.Resampling.NEAREST))


def sprites_recipe(data: EpisodeDataset) -> SpritesRecipe:
    """With proposals where the environment shows goals."""
    hidden = SpritesRecipe.proposal_hidden if data.shows_goals else 0
    return SpritesRecipe(proposal_hidden=hidden, **heads_for(data))


register_recipe("sprites", sprites_recipe)
