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
from grasp_agent.training.distance import DISTANCE, DISTANCE_HIDDEN, distance_errors, distance_stage
from grasp_agent.training.latent import latents_of, later_stages, report_on
from grasp_agent.training.loop import Stage
from grasp_agent.training.outcomes import OutcomesTask, check_rewards, outcome_errors, outcomes_task
from grasp_agent.training.recipe import Recipe, RecipeStage, Run, register_recipe, task_of

HUBER = 0.05
"""Errors of the dynamics up to a twentieth of an observation's deviation count squared."""


@dataclass(frozen=True)
class VectorRecipe(Recipe):
    """How a `VectorModel` is trained.

    Attributes:
        hidden: width of the dynamics network.
        history: observations that the dynamics reads: 1 where an observation tells the whole state.
        goals: whether the model proposes plans to goals.
        rewards: whether the model foresees rewards.
        discount: what a reward one step later is worth.
        dynamics: schedule of stage 1; its batch counts windows.
        proposal: schedule of the plan proposals.
        outcomes: schedule of the rewards; its batch counts steps.
        distance: schedule of the distances in steps; its batch counts pairs of observations.
        detours: whether the model learns how many steps lie between states, for worlds in which the straight way is
            often none.
        unroll: steps that the dynamics is rolled out in training.
    """

    hidden: int = 256
    history: int = 1
    goals: bool = True
    rewards: bool = True
    discount: float = 0.99
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=256, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=8_000, batch=512, learning_rate=1e-3)
    outcomes: Stage = Stage("outcomes", steps=6_000, batch=512, learning_rate=1e-3)
    distance: Stage = DISTANCE
    detours: bool = False
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
        if self.rewards:
            check_rewards(data)
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
            distance_hidden=DISTANCE_HIDDEN if self.detours else 0,
            outcome_hidden=self.hidden // 2 if self.rewards else 0,
            discount=self.discount,
        )
        model = VectorModel(config)
        changes = torch.from_numpy(data.vectors[steps + 1] - data.vectors[steps])
        model.fit_scales(torch.from_numpy(data.vectors[data.frame_numbers(training)]), changes)
        return model

    def stages(self) -> tuple[RecipeStage, ...]:
        proposal = self.proposal if self.goals else None
        stages = later_stages(self.dynamics, proposal, self.unroll, symmetry=False, huber=HUBER)
        if self.detours:
            stages = (*stages, distance_stage(self.distance, self.seed))
        if self.rewards:
            batch = self.outcomes.batch
            last = RecipeStage(self.outcomes, "rewards", "steps", lambda run: outcomes_task(run, batch))
            stages = (*stages, last)
        return stages

    def report(self, run: Run) -> dict[str, Any]:
        metrics = report_on(run, self.dynamics.batch, None, self.seed)
        if self.detours:
            metrics["distance"] = distance_errors(run, self.seed)
        if self.rewards:
            held_out = OutcomesTask(run.model, run.data, latents_of(run), run.held_out, self.outcomes.batch)
            metrics["outcomes"] = outcome_errors(held_out)
        return metrics


def vector_recipe(data: EpisodeDataset) -> VectorRecipe:
    """For data with rewards or without."""
    return VectorRecipe(rewards=data.rewards is not None, detours=task_of(data).detours)


register_recipe("vector", vector_recipe)
