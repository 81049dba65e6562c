"""The recipe "sprites": things that move over a still background, from frames and actions alone (sprites.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.sprites.config import SpritesConfig
from grasp_agent.models.sprites.model import SpritesModel
from grasp_agent.training.latent import later_stages, report_on
from grasp_agent.training.loop import Stage
from grasp_agent.training.recipe import Recipe, RecipeStage, Run, register_recipe, task_of
from grasp_agent.training.sprites import SpritesTask
from grasp_agent.training.survey import survey

COVERED = 0.9
"""Share of the data's actions that lie within the model's action limit: of larger ones it has seen too few."""

HUBER = 0.02
"""Errors of the dynamics up to a 1250th of a picture count squared: fine pushes are about as small."""


@dataclass(frozen=True)
class SpritesRecipe(Recipe):
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
            action_limit=round(float(np.quantile(np.abs(moves).max(1), COVERED)), 4) or None,
            dynamics_hidden=self.dynamics_hidden,
            proposal_hidden=self.proposal_hidden,
            look_ahead=task_of(data).look_ahead,
        )
        model = SpritesModel(config)
        model.difference.set(torch.from_numpy(found.backgrounds), torch.from_numpy(found.whitening))
        return model

    def stages(self) -> tuple[RecipeStage, ...]:
        first = RecipeStage(self.encoder, "sprites and their poses", "frames", self._sprites_task)
        proposal = self.proposal if self.proposal_hidden else None
        return first, *later_stages(self.dynamics, proposal, self.unroll, symmetry=False, huber=HUBER)

    def _sprites_task(self, run: Run) -> SpritesTask:
        frames, found = run.data.frame_numbers(run.training), survey(run.data, run.training, self.seed)
        return SpritesTask(run.model, run.data, frames, found, self.encoder.batch)

    def report(self, run: Run) -> dict[str, Any]:
        return report_on(run, self.dynamics.batch, None, self.seed)


register_recipe("sprites", lambda data: SpritesRecipe())
