"""Stage 1: the encoder and the decoder, on single frames.

    loss = reconstruction + supervision

Reconstruction: mean squared error of the decoded image, each pixel weighted by how much it differs from the
mean image of the batch, since most of a frame is background (self-supervised). Supervision (optional, named in
the model card): squared error between latent and the simulator's pose, which fixes what each number of the
latent means. The decoder also learns from the pose itself, so that it can draw states that are predicted rather
than encoded.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.types import WorldModel
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.training.loop import Batch, Losses


class RepresentationTask:
    """Batches and losses of stage 1.

    Args:
        model: its encoder and decoder are trained.
        data: frames.
        frames: numbers of the frames to train on.
        targets: latents wanted for every frame of the data [F, D], or None for training without supervision.
        batch: frames per step.
        supervision_weight: of the supervised term.
        reconstructed: share of the batch that is decoded, to save time.
    """

    def __init__(
        self,
        model: LatentWorldModel,
        data: EpisodeDataset,
        frames: NDArray[np.int64],
        targets: NDArray[np.float32] | None,
        batch: int,
        supervision_weight: float = 5.0,
        reconstructed: float = 0.25,
    ) -> None:
        if targets is None and model.decoder is None:
            raise ValueError("training the encoder: expected simulator states in the data or a decoder, got neither")
        self.model = model
        self.data = data
        self.frames = frames
        self.targets = targets
        self.batch = batch
        self.supervision_weight = supervision_weight
        self.decoded = max(1, round(batch * reconstructed)) if targets is not None else batch
        parts = [model.encoder] + ([model.decoder] if model.decoder is not None else [])
        self.module = nn.ModuleList(parts)

    def draw(self, generator: np.random.Generator) -> Batch:
        numbers = np.sort(generator.choice(self.frames, self.batch))
        numbers = numbers[generator.permutation(self.batch)]
        images = torch.from_numpy(self.data.frames(numbers))
        if self.targets is None:
            return (images,)
        return images, torch.from_numpy(self.targets[numbers])

    def losses(self, batch: Batch, progress: float) -> Losses:
        images = batch[0]
        latents = self.model.encode(images)
        terms: Losses = {"loss": latents.new_zeros(())}
        if self.targets is not None:
            terms["supervision"] = functional.smooth_l1_loss(latents, batch[1], beta=0.1)
            terms["loss"] = terms["loss"] + self.supervision_weight * terms["supervision"]
        if self.model.decoder is not None:
            n = self.decoded
            shown = latents[:n]
            if self.targets is not None:
                half = n // 2
                shown = torch.cat([latents[:half], batch[1][half:n]])
            terms["reconstruction"] = reconstruction_loss(self.model.decode(shown), images[:n])
            terms["loss"] = terms["loss"] + terms["reconstruction"]
        return terms


def reconstruction_loss(decoded: Tensor, images: Tensor) -> Tensor:
    """Squared error with rare pixels weighted up: [B, H, W, 3] in 0..1 and uint8 [B, H, W, 3] -> scalar."""
    wanted = images.to(decoded.dtype) / 255.0
    rare = (wanted - wanted.mean(0, keepdim=True)).square().sum(-1, keepdim=True)
    weight = 1.0 + 10.0 * rare
    return (weight * (decoded - wanted).square()).mean() * 10.0


@torch.inference_mode()
def encode_dataset(model: WorldModel, data: EpisodeDataset, batch: int = 64) -> NDArray[np.float32]:
    """Latents of every frame of the data, [F, *S]."""
    out = np.empty((len(data), *model.state_shape), dtype=np.float32)
    for first in range(0, len(data), batch):
        numbers = np.arange(first, min(first + batch, len(data)))
        out[numbers] = model.encode(torch.from_numpy(data.observations(numbers))).float().cpu().numpy()
    return out
