"""The recipe of a DINO-WM: the predictor on the features of a frozen DINOv2, and a decoder beside it.

    loss = | p(z_1, a_1, ..., z_h, a_h) - sg(z_2, ..., z_{h+1}) |^2 / numbers   teacher forcing, all h frames at once
         + | decoder(sg(v_{h+1})) - x_{h+1} |^2 / numbers                       which shapes nothing but the decoder

over patch features and the embedding of proprioception alike; sg() = stop-gradient. The features cannot collapse,
they are fixed; they are computed anew for every batch, since those of a data set would not fit on most disks.

Source: Zhou et al., "DINO-WM", arXiv 2411.04983 (see `grasp_agent/models/dino_wm/model.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.capabilities import PROPRIO_KEYS
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.dino_wm.backbone import load_backbone
from grasp_agent.models.dino_wm.model import DinoWMConfig, DinoWorldModel
from grasp_agent.models.frames import PIXEL_KEY
from grasp_agent.models.trust import LATENT_ERRORS
from grasp_agent.training.dynamics import FrameWindows, unrolled
from grasp_agent.training.loop import Batch, Losses, Stage
from grasp_agent.training.recipe import Recipe, RecipeStage, Run, register_recipe


class PatchTask:
    """Batches and losses.

    Args:
        model: its predictor, embeddings and decoder are trained.
        data: frames, actions and episode boundaries.
        episodes: to train on.
        batch: windows of h + 1 frames per step.

    Raises:
        ValueError: the data hold other numbers beside the pictures than the model reads.
    """

    def __init__(
        self,
        model: DinoWorldModel,
        data: EpisodeDataset,
        episodes: NDArray[np.int64],
        batch: int,
    ) -> None:
        self.model = model
        self.data = data
        self.windows = FrameWindows(model, data)
        self.episodes = episodes
        self.presents = data.windows(episodes, model.action_block + 1)
        self.batch = batch
        self.proprio = _proprio(data, model.proprio_dim)
        parts = [model.predictor, model.action_embedding, model.proprio_embedding, model.decoder]
        self.module = nn.ModuleList(part for part in parts if part is not None)

    def draw(self, generator: np.random.Generator) -> Batch:
        """A window for each row, as `window`, and the seed of the step's dropout."""
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        return *self.window(present, 1), torch.from_numpy(generator.integers(0, 2**62, ()))

    def window(self, present: Tensor, unroll: int) -> Batch:
        """Images [B, h + K, ...], proprioception [B, h + K, Q] and actions [B, h + K - 1, A] around the frames [B].

        Before an episode's first frame the history repeats that frame with zero actions, as the agent's does.
        """
        numbers, actions = self.windows.numbers(present, unroll)
        images = torch.from_numpy(self.data.frames(numbers.flatten().numpy())).unflatten(0, numbers.shape)
        return images, self.proprio[numbers], actions

    def encoded(self, images: Tensor, proprio: Tensor) -> Tensor:
        """Images [B, W, ...] and proprioception [B, W, Q] -> latents [B, W, P, E]."""
        obs = {PIXEL_KEY: images.flatten(0, 1), PROPRIO_KEYS[0]: proprio.flatten(0, 1)}
        latents: Tensor = self.model.encode(obs).unflatten(0, images.shape[:2])
        return latents

    def losses(self, batch: Batch, progress: float) -> Losses:
        images, proprio, actions, seed = batch
        model, h = self.model, self.model.history
        states = self.encoded(images, proprio)
        # Seeded by the step, so that a resumed training drops out what it would have, and nobody's numbers are used up.
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(int(seed))
            predicted = model.predict_all(states[:, :h], actions)
        gap = (predicted - states[:, 1:].detach()).square()
        terms = {"loss": gap.mean(), "visual": gap[..., : model.visual_size].mean()}
        if self.model.proprio_embedding is not None:
            terms["proprio"] = gap[..., model.visual_size :].mean()
        if model.decoder is not None:
            drawn = model.decode(states[:, -1].detach())
            terms["reconstruction"] = functional.mse_loss(drawn.float(), images[:, -1] / 255)
            terms["loss"] = terms["loss"] + terms["reconstruction"]
        return terms


@torch.inference_mode()
def patch_errors(task: PatchTask, unroll: int, windows: int = 500, seed: int = 0) -> dict[str, Any]:
    """Errors of the prediction on held-out episodes.

    Args:
        task: over the held-out episodes.
        unroll: model steps of the longest rollout.
        windows: how many rollouts.
        seed: which.

    Returns:
        "prediction_error": mean squared error of a latent predicted one model step ahead; "copy_error": the same if
        the last latent is taken for the next; "relative_latent_error_by_step": root mean squared error by environment
        steps ahead, relative to the latents' spread.
    """
    model, h = task.model, task.model.history
    presents = task.data.windows(task.episodes, unroll * model.action_block + 1)
    chosen = np.random.default_rng(seed).permutation(presents)[:windows]
    error, total, square = torch.zeros(unroll), torch.zeros(model.state_shape), torch.zeros(())
    copied = torch.zeros(())
    for part in np.array_split(chosen, max(1, len(chosen) // task.batch)):
        images, proprio, actions = (x.to(model.device) for x in task.window(torch.from_numpy(part), unroll))
        states = task.encoded(images, proprio)
        wanted = states[:, h:]
        error += (unrolled(model, states, actions, unroll) - wanted).square().sum((0, 2, 3)).cpu()
        copied += (states[:, h] - states[:, h - 1]).square().sum().cpu()
        total += wanted.mean(1).sum(0).cpu()
        square += wanted.square().mean(1).sum().cpu()
    n = len(chosen) * model.state_shape[0] * model.state_shape[1]
    spread = float((square / len(chosen) - (total / len(chosen)).square().sum()).clamp_min(1e-18)) ** 0.5
    relative = (error / len(chosen)).sqrt() / spread
    return {
        "prediction_error": float(error[0] / n),
        "copy_error": float(copied / n),
        LATENT_ERRORS: {str((t + 1) * model.action_block): round(float(e), 4) for t, e in enumerate(relative)},
    }


@dataclass(frozen=True)
class DinoWMRecipe(Recipe):
    """How a DINO-WM is trained.

    Attributes:
        model: sizes and structure; means and deviations that it leaves open are taken from the data.
        backbone: DINOv2, as `load_backbone` takes it.
        dynamics: schedule of the predictor.
    """

    model: DinoWMConfig = field(default_factory=DinoWMConfig)
    backbone: str = "facebook/dinov2-small"
    dynamics: Stage = Stage("predictor", steps=100_000, batch=32, learning_rate=5e-4)

    def build(self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> DinoWorldModel:
        data.check_fits(self.model.image_size, self.model.action_dim)
        config = self._fitted(data, training)
        for episodes in (training, held_out):
            data.windows(episodes, self.model.action_block + 1)
        return DinoWorldModel(config, load_backbone(self.backbone, self.model.grid))

    def stages(self) -> tuple[RecipeStage, ...]:
        def task(run: Run) -> PatchTask:
            return PatchTask(run.model, run.data, run.training, self.dynamics.batch)

        return (RecipeStage(self.dynamics, "predictor on frozen features", "windows", task),)

    def report(self, run: Run) -> dict[str, Any]:
        validation = PatchTask(run.model, run.data, run.held_out, self.dynamics.batch)
        return patch_errors(validation, run.horizon)

    def _fitted(self, data: EpisodeDataset, training: NDArray[np.int64]) -> DinoWMConfig:
        """The model's config with the means and deviations of the data, which are checked."""
        followed = data.windows(training, 2)  # an episode's last action is none
        values = {"action": data.actions[followed], "proprio": _proprio(data, self.model.proprio_dim)[followed].numpy()}
        found: dict[str, Any] = {}
        for name, numbers in values.items():
            bad = int((~np.isfinite(numbers)).any(axis=1).sum())
            if bad:
                raise ValueError(
                    f"{data.folder}: expected finite {name} values, got NaN or infinity in {bad} of {len(followed)}"
                    " frames; collect them again"
                )
            if numbers.shape[1]:
                found[f"{name}_mean"] = tuple(numbers.mean(0).tolist())
                found[f"{name}_std"] = tuple(np.maximum(numbers.std(0), 1e-6).tolist())
        left_open = {name: value for name, value in found.items() if getattr(self.model, name) is None}
        return replace(self.model, **left_open)


def dino_wm_recipe(data: EpisodeDataset) -> DinoWMRecipe:
    """The published sizes and schedule, for the frames and actions of `data` and the numbers beside the frames."""
    size, actions = data.image_size, int(data.actions.shape[1])
    proprio = 0 if data.proprio is None else int(data.proprio.shape[1])
    return DinoWMRecipe(DinoWMConfig(image_size=size, action_dim=actions, proprio_dim=proprio, decoder_channels=16))


def _proprio(data: EpisodeDataset, size: int) -> Tensor:
    """The numbers beside every frame, [F, size]; those of the data are not looked at if none are wanted."""
    if size == 0:
        return torch.zeros(len(data), 0)
    have = 0 if data.proprio is None else data.proprio.shape[1]
    if data.proprio is None or have != size:
        raise ValueError(
            f"{data.folder}: expected {size} numbers of proprioception beside each picture, got {have}; collect where"
            f" observations show them under {' or '.join(map(repr, PROPRIO_KEYS))}"
        )
    return torch.from_numpy(data.proprio)


register_recipe("dino_wm", dino_wm_recipe)
