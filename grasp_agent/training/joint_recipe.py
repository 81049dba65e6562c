"""Recipes of latents that are learnt by predicting them (joint.py): "joint", a vector, and "joint_grid", a grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.joint_embedding.config import JointEmbeddingConfig
from grasp_agent.models.joint_embedding.model import JointEmbeddingModel
from grasp_agent.training.heads import HeadsRecipe, heads_for
from grasp_agent.training.joint import JointTask, JointWeights
from grasp_agent.training.latent import later_stages, report_on
from grasp_agent.training.loop import Stage
from grasp_agent.training.recipe import RecipeStage, Run, register_recipe, task_of

COLOURS = 256
"""Frames that the whitening of colours is fitted on."""

COVERED = 0.999
"""Share of the data's actions that lie within the model's action limit."""


@dataclass(frozen=True)
class JointRecipe(HeadsRecipe):
    """How a `JointEmbeddingModel` is trained, from frames and actions alone.

    Attributes:
        model: sizes and structure; mean, deviation and limit of the actions are taken from the data.
        weights: of the loss's terms in stage 1.
        encoder: schedule of stage 1, encoder and dynamics together; its batch counts windows.
        dynamics: schedule of stage 2, the dynamics alone, rolled out further.
        proposal: schedule of stage 3, if the model proposes plans.
        unroll: model steps that the dynamics is rolled out in stage 2.
        joint_unroll: model steps that the dynamics is rolled out in stage 1.
        whitened: weight of stage 2's errors in the latents' principal components (see dynamics.py).
    """

    model: JointEmbeddingConfig = field(default_factory=JointEmbeddingConfig)
    weights: JointWeights = field(default_factory=JointWeights)
    encoder: Stage = Stage("joint", steps=6_000, batch=32, learning_rate=1e-3)
    dynamics: Stage = Stage("dynamics", steps=6_000, batch=256, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=12_000, batch=768, learning_rate=1e-3)
    unroll: int = 6
    joint_unroll: int = 2
    whitened: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("unroll", "joint_unroll"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1 model step, got {getattr(self, name)}")
        if not self.whitened >= 0:
            raise ValueError(f"whitened: expected 0 or more, got {self.whitened}")

    def build(
        self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> JointEmbeddingModel:
        data.check_fits(self.model.image_size, self.model.action_dim)
        data.check_finite("actions", data.actions)
        longest = max(self.unroll, self.joint_unroll)
        data.windows(training, longest * self.model.action_block + 1)
        data.windows(held_out, self.model.action_block + 1)
        moves = data.actions[data.windows(training, 2)]  # an episode's last action is none
        model = JointEmbeddingModel(
            replace(
                self.model,
                action_mean=tuple(moves.mean(0).tolist()),
                action_std=tuple(np.maximum(moves.std(0), 1e-6).tolist()),
                action_limit=round(float(np.quantile(np.abs(moves).max(1), COVERED)), 4),
                **self.heads(data),
            )
        )
        some = np.random.default_rng(self.seed).choice(data.frame_numbers(training), COLOURS)
        model.whitening.fit(torch.from_numpy(data.frames(some)))
        return model

    def stages(self) -> tuple[RecipeStage, ...]:
        first = RecipeStage(self.encoder, "encoder and dynamics", "windows", self._joint_task)
        proposal = self.proposal if self.model.proposal_hidden else None
        later = later_stages(self.dynamics, proposal, self.unroll, symmetry=False, whitened=self.whitened)
        return first, *later, *self.head_stages()

    def _joint_task(self, run: Run) -> JointTask:
        return JointTask(run.model, run.data, run.training, self.encoder.batch, self.weights, self.joint_unroll)

    def report(self, run: Run) -> dict[str, Any]:
        return {**report_on(run, self.dynamics.batch, None, self.seed), **self.head_metrics(run)}


def joint_recipe(data: EpisodeDataset) -> JointRecipe:
    """A vector latent of 128 numbers, with proposals where the environment shows goals."""
    size, actions = data.image_size, int(data.actions.shape[1])
    zeros, ones = (0.0,) * actions, (1.0,) * actions
    config = JointEmbeddingConfig(
        size,
        action_dim=actions,
        action_mean=zeros,
        action_std=ones,
        proposal_hidden=256 if data.shows_goals else 0,
        look_ahead=task_of(data).look_ahead,
    )
    return JointRecipe(config, **heads_for(data))


def joint_grid_recipe(data: EpisodeDataset) -> JointRecipe:
    """A grid latent of 8 x 8 cells of 32 numbers; for the frames and actions of `data`."""
    vector = joint_recipe(data)
    model = replace(
        vector.model, grid=8, patch=8, state_size=32, dynamics_hidden=64, dynamics_depth=4, proposal_hidden=0
    )
    weights = JointWeights(sigreg=0.0, straightening=0.1, reconstruction=1.0, noise=0.1)
    return replace(vector, model=model, weights=weights, dynamics=replace(vector.dynamics, steps=3_000, batch=64))


register_recipe("joint", joint_recipe)
register_recipe("joint_grid", joint_grid_recipe)
