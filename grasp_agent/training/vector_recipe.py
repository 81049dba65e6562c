"""The recipe "vector": environments whose observations are vectors of the state. There is nothing to encode.

OUT/metrics.json      relative errors on held-out episodes, of the dynamics and of rewards
OUT/latents.npy       state of training, beside *.pt
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.vector.config import VectorConfig
from grasp_agent.models.vector.model import VectorModel
from grasp_agent.training.heads import HeadsRecipe, heads_for
from grasp_agent.training.latent import later_stages, report_on
from grasp_agent.training.loop import Stage
from grasp_agent.training.recipe import RecipeStage, Run, register_recipe, task_of

HUBER = 0.05
"""Errors of the dynamics up to a twentieth of an observation's deviation count squared."""


@dataclass(frozen=True)
class VectorRecipe(HeadsRecipe):
    """How a `VectorModel` is trained.

    Attributes:
        hidden: width of the dynamics network.
        history: observations that the dynamics reads: 1 where an observation tells the whole state.
        goals: whether the model proposes plans to goals.
        dynamics: schedule of stage 1; its batch counts windows.
        proposal: schedule of the plan proposals.
        unroll: steps that the dynamics is rolled out in training.
    """

    hidden: int = 256
    history: int = 1
    goals: bool = True
    rewards: bool = True
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=256, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=8_000, batch=512, learning_rate=1e-3)
    unroll: int = 5

    def build(self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> VectorModel:
        if data.vectors is None:
            raise ValueError(
                f"{data.folder}: expected vectors for the recipe 'vector', got pictures of {data.image_size} px; try"
                " the recipe 'sprites' or 'generic'"
            )
        data.check_finite("observations", data.vectors)
        data.check_finite("actions", data.actions)
        data.windows(held_out, 2)
        data.windows(training, self.unroll + 1)
        steps = data.windows(training, 2)
        config = VectorConfig(
            size=data.vectors.shape[1],
            action_dim=data.actions.shape[1],
            goal_size=data.goal_size,
            history=self.history,
            action_scale=round(float(np.abs(data.actions[steps]).max()) or 1.0, 4),
            hidden=self.hidden,
            proposal_hidden=self.hidden if self.goals else 0,
            look_ahead=task_of(data).look_ahead,
            **self.heads(data),
        )
        model = VectorModel(config)
        changes = torch.from_numpy(data.vectors[steps + 1] - data.vectors[steps])
        model.fit_scales(torch.from_numpy(data.vectors[data.frame_numbers(training)]), changes)
        return model

    def stages(self) -> tuple[RecipeStage, ...]:
        proposal = self.proposal if self.goals else None
        later = later_stages(self.dynamics, proposal, self.unroll, symmetry=False, huber=HUBER)
        return *later, *self.head_stages()

    def report(self, run: Run) -> dict[str, Any]:
        return {**report_on(run, self.dynamics.batch, None, self.seed), **self.head_metrics(run)}


def vector_recipe(data: EpisodeDataset) -> VectorRecipe:
    """With proposals where the environment shows goals, and rewards where the data hold some."""
    return VectorRecipe(goals=data.shows_goals, **{**heads_for(data), "rewards": data.rewards is not None})


register_recipe("vector", vector_recipe)
