"""Recipes of vector latents: encoder, latents of all frames, dynamics, proposals.

OUT/metrics.json      errors in physical units, and of probes (probes.py), where the data hold simulator states whose
                      meaning the model's layout or the task knows
OUT/errors.png        the same as a picture
OUT/rollouts.png      decoded rollouts under the real frames
OUT/latents.npy       state of training, beside *.pt
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.files.atomic import replacing
from grasp_agent.models.latent.config import WorldModelConfig
from grasp_agent.models.latent.layout import LAYOUTS, StateLayout
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.models.trust import LATENT_ERRORS
from grasp_agent.training.dynamics import HUBER, DynamicsTask
from grasp_agent.training.loop import Stage, TrainingTask
from grasp_agent.training.probes import fit_probes
from grasp_agent.training.proposal import ProposalTask
from grasp_agent.training.recipe import Recipe, RecipeStage, Run, register_recipe, task_of
from grasp_agent.training.report import (
    latent_errors,
    prediction_errors,
    probe_errors,
    save_errors,
    save_rollout_picture,
)
from grasp_agent.training.representation import RepresentationTask, encode_dataset


@dataclass(frozen=True)
class LatentRecipe(Recipe):
    """How a `LatentWorldModel` is trained.

    Attributes:
        model: sizes and structure.
        representation: what makes the latent, in stage 1. "supervised": the simulator's state, for layouts that say
            what each number means. "reconstruction": drawing the frame from it.
        encoder: schedule of stage 1; its batch counts frames.
        dynamics: schedule of stage 2.
        proposal: schedule of stage 3, if the model proposes plans.
        unroll: model steps the dynamics is rolled out in training.
        supervision_weight: of the simulator's state in stage 1; used with representation "supervised", which needs
            such states in the data.
    """

    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    representation: Literal["supervised", "reconstruction"] = "reconstruction"
    encoder: Stage = Stage("encoder", steps=4_000, batch=128, learning_rate=1.5e-3)
    dynamics: Stage = Stage("dynamics", steps=8_000, batch=512, learning_rate=1e-3)
    proposal: Stage = Stage("proposal", steps=12_000, batch=768, learning_rate=1e-3)
    unroll: int = 12
    supervision_weight: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.representation not in ("supervised", "reconstruction"):
            raise ValueError(f"representation: expected 'supervised' or 'reconstruction', got {self.representation!r}")
        if (self.representation == "supervised") != (self._layout is not None):
            raise ValueError(
                "representation: expected 'supervised' with a layout of the simulator's state and another with layout"
                f" 'free', got {self.representation!r} with {self.model.layout!r}"
            )
        if self.unroll < 1:
            raise ValueError(f"unroll: expected at least 1 model step, got {self.unroll}")
        if self.supervision_weight < 0:
            raise ValueError(f"supervision_weight: expected 0 or more, got {self.supervision_weight}")

    @property
    def _layout(self) -> StateLayout | None:
        """What gives the model's latents a meaning."""
        layout = LAYOUTS[self.model.layout]
        return layout if isinstance(layout, StateLayout) else None

    def build(self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> LatentWorldModel:
        data.check_fits(self.model.image_size, self.model.action_dim)
        needed: dict[str, NDArray[Any]] = {"actions": data.actions}
        if self._layout is not None:
            if data.states is None or data.states.shape[1] < self._layout.state_numbers:
                raise ValueError(
                    f"{data.folder}: layout {self.model.layout!r} is trained with simulator states of"
                    f" {self._layout.state_numbers} or more numbers, which are missing; try the recipe 'generic'"
                )
            needed["states"] = data.states
        for name, values in needed.items():
            data.check_finite(name, values)
        data.windows(training, self.unroll * self.model.action_block + 1)
        data.windows(held_out, self.model.action_block + 1)
        return LatentWorldModel(self.model)

    def stages(self) -> tuple[RecipeStage, ...]:
        first = RecipeStage(self.encoder, "encoder and decoder", "frames", self._representation_task)
        proposal = self.proposal if self.model.proposal_hidden else None
        return first, *later_stages(self.dynamics, proposal, self.unroll, symmetry=True)

    def _representation_task(self, run: Run) -> TrainingTask:
        data, batch = run.data, self.encoder.batch
        targets = None
        if self._layout is not None and data.states is not None:
            targets = self._layout.latents_of_states(data.states)
        frames = data.frame_numbers(run.training)
        return RepresentationTask(run.model, data, frames, targets, batch, self.supervision_weight)

    def report(self, run: Run) -> dict[str, Any]:
        return report_on(run, self.dynamics.batch, self._layout, self.seed)


def later_stages(
    dynamics: Stage,
    proposal: Stage | None,
    unroll: int,
    symmetry: bool,
    huber: float = HUBER,
    whitened: float = 0.0,
) -> tuple[RecipeStage, ...]:
    """Stages 2 and 3 on the latents of stage 1: the dynamics, and plan proposals if they have a schedule.

    Args:
        dynamics: schedule of stage 2; its batch counts windows.
        proposal: schedule of stage 3, or None.
        unroll: model steps that the dynamics is rolled out.
        symmetry: augment by the symmetries that the model's layout knows.
        huber: error of the dynamics up to which errors count squared, in the latent's unit.
        whitened: weight of the dynamics' errors in the latents' principal components (see dynamics.py).
    """

    def dynamics_task(run: Run) -> DynamicsTask:
        latents = latents_of(run)
        data, batch = run.data, dynamics.batch
        return DynamicsTask(run.model, data, latents, run.training, batch, unroll, symmetry, huber, whitened)

    second = RecipeStage(dynamics, "dynamics", "windows", dynamics_task)
    if proposal is None:
        return (second,)
    batch = proposal.batch

    def proposal_task(run: Run) -> ProposalTask:
        return ProposalTask(run.model, run.data, latents_of(run), run.training, batch, symmetry)

    return second, RecipeStage(proposal, "plan proposals", "plans", proposal_task)


def report_on(run: Run, batch: int, layout: StateLayout | None, seed: int) -> dict[str, Any]:
    """Metrics of a trained model with latents in `latents_of`, and pictures in the run's folder.

    Args:
        run: the training.
        batch: windows of the validation's batches.
        layout: what gives the model's latents a meaning; without, the task's, if it has one, is read by probes.
        seed: of the probes.
    """
    data, latents = run.data, latents_of(run)
    validation = DynamicsTask(run.model, data, latents, run.held_out, batch, run.horizon, symmetry=False)
    metrics: dict[str, Any] = {}
    known, states = layout or task_of(data).states, data.states
    if known and states is not None and states.shape[1] >= known.state_numbers and np.isfinite(states).all():
        truth = known.latents_of_states(states)
        probes = fit_probes(latents, truth, data.frame_numbers(run.training), seed)
        flat = latents.reshape(len(latents), -1)
        metrics["probes"] = probe_errors(probes, flat, truth, known, data.frame_numbers(run.held_out))
        read = (lambda latents: probes["network"](latents.flatten(1))) if layout is None else (lambda latents: latents)
        metrics["errors_by_step"] = prediction_errors(run.model, validation, truth, known, read)
        save_errors(metrics["errors_by_step"], run.folder / "errors.png")
    if layout is None:
        metrics[LATENT_ERRORS] = latent_errors(run.model, validation)
    if run.model.decoder is not None:
        save_rollout_picture(run.model, data, validation, run.folder / "rollouts.png")
    return metrics


def latents_of(run: Run) -> NDArray[np.float32]:
    """Latents of all frames by the encoder of stage 1, [F, *S]; encoded once."""
    cache = run.folder / "latents.npy"
    if not cache.is_file():
        run.say(f"encoding {len(run.data)} frames")
        with replacing(cache) as temporary:
            np.save(temporary, encode_dataset(run.model, run.data))
    latents: NDArray[np.float32] = np.load(cache)
    return latents


def pose_recipe(data: EpisodeDataset) -> LatentRecipe:
    """Poses from the simulator's state, supervised: the recipe of the shipped model, about two hours on 2 CPU cores.

    Raises:
        ValueError: it is not known what the simulator states of the data mean.
    """
    layout = task_of(data).states
    if layout is None:
        raise ValueError(
            f"{data.folder}: expected, for the recipe 'pose', recordings of a task whose simulator states have a known"
            f" meaning, got the task {task_of(data).name!r}; try the recipe 'generic'"
        )
    return LatentRecipe(layout.model_config(), "supervised")


def generic_recipe(data: EpisodeDataset) -> LatentRecipe:
    """Free latents from reconstruction alone: any image environment with a Box action space, no simulator state."""
    action_dim = int(data.actions.shape[1])
    return LatentRecipe(WorldModelConfig(state_size=32, action_dim=action_dim, action_block=5), unroll=8)


register_recipe("pose", pose_recipe)
register_recipe("generic", generic_recipe)
