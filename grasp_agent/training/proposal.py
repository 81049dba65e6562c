"""Stage 3: plan proposals, from the latents of stage 1 and the actions of the data (see models/proposals/flow.py).

A goal is a state that the same trajectory reaches 1 to `REACH` environment steps later (hindsight: Andrychowicz et
al., arXiv 1707.01495), all alike likely; from there on the plan stands still.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.training.dynamics import LatentWindows
from grasp_agent.training.loop import Batch, Losses

REACH = 100


class ProposalTask(LatentWindows):
    """Batches and losses of stage 3.

    Args:
        model: its proposal is trained.
        data: actions and episode boundaries.
        latents: of all frames, [F, D].
        episodes: to train on.
        batch: windows per step.
        symmetry: augment by the symmetries that the model's layout knows.

    Raises:
        ValueError: the model has no proposal.
    """

    def __init__(
        self,
        model: LatentWorldModel,
        data: EpisodeDataset,
        latents: NDArray[np.float32],
        episodes: NDArray[np.int64],
        batch: int,
        symmetry: bool,
    ) -> None:
        super().__init__(model, data, latents)
        if model.proposal is None:
            raise ValueError("training proposals: expected a model that has them, got proposal_hidden = 0")
        self.module = model.proposal
        self.steps = model.proposal.steps
        self.presents = data.windows(episodes, 2)
        self.last = torch.from_numpy(np.repeat(data.starts + data.lengths - 1, data.lengths))
        self.batch = batch
        self.symmetry = symmetry

    def draw(self, generator: np.random.Generator) -> Batch:
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        room = (self.last[present] - present).clamp(max=REACH)
        ahead = 1 + (torch.from_numpy(generator.random(self.batch)) * room).long()
        states, past = self.window(present, 0)
        goal = self.latents[present + ahead]

        steps = torch.arange(self.steps)
        number = (present[:, None] + steps).clamp(max=len(self.actions) - 1)
        actions = self.actions[number] * (steps < ahead[:, None])[..., None]
        if self.symmetry:
            dim, h = actions.shape[2], states.shape[1]
            every = torch.cat([states, goal.unsqueeze(1)], dim=1)
            every, moves = self.moved(every, torch.cat([past.view(len(past), -1, dim), actions], dim=1), generator)
            states, goal = every[:, :h], every[:, h]
            past, actions = moves[:, : -self.steps].reshape_as(past), moves[:, -self.steps :]
        shown = torch.from_numpy((generator.random((self.batch, 1)) < 0.5).astype(np.float32))
        noise = torch.from_numpy(generator.standard_normal(actions.shape, np.float32))
        time = torch.from_numpy(generator.random((self.batch, 1), np.float32))
        return states, past, goal, shown, actions, noise, time

    def losses(self, batch: Batch, progress: float) -> Losses:
        return {"loss": self.module.loss(*batch)}
