"""Learn a latent that is one vector on the cells of a grid that is there already, from pixels and actions alone.

    python benchmarks/vector_head.py --out runs/vector --bfloat16
    python benchmarks/joint_embeddings.py --out runs/vector --share 0.5 --device cpu --threads 1 --variant conv_vector \
        --initial runs/vector/head/model --learn dynamics

The first command makes data, a head and a decoder, the second the dynamics. The convolutions of the grid's encoder stay
as they are. With z = head(cells), and a dynamics and an inverse dynamics that serve this training alone,

    loss =   mean over t of  | z_hat_t - z_t |^2 / D                         prediction, K calls of five steps each
           + mean over t of  huber(read(z_t + noise) - y_t)
           + mean over t of  huber(read(z_hat_t + noise) - y_t)              what is foreseen must show the frame, too
           + lambda_i | inverse(z_t, z_{t+1}) - a_t |^2 + lambda_c (1 - cos of successive changes) + SIGReg

y are the 256 largest principal components of the frame at half its size, each divided by the fourth root of its
variance. A component's deviation is then the square root of what it was: a block, which fills a small part of the
frame, counts about as much as what fills most of it. Without y the block is lost (docs/training_log.md).

The latents that come out are predicted best in single steps. So the model's own dynamics is learnt anew, one
environment step a call.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joint_embeddings import VARIANTS, collect
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.types import Observation
from grasp_agent.data import EpisodeDataset
from grasp_agent.files.atomic import replacing
from grasp_agent.models import load_world_model, save_pretrained
from grasp_agent.models.joint_embedding.dynamics import InverseDynamics
from grasp_agent.models.joint_embedding.encoders import ConvVectorHead
from grasp_agent.models.joint_embedding.model import JointEmbeddingModel, in_deviations
from grasp_agent.models.latent.dynamics import ResidualMLP
from grasp_agent.training.dynamics import COMPONENTS, FrameWindows, principal_directions, unrolled
from grasp_agent.training.joint import DIRECTIONS, FrameSource, reconstruction, sigreg
from grasp_agent.training.loop import Batch, Losses, Stage, run_stage

VARIANT = "conv_vector"
BLOCK = 5
"""Environment steps of a call of the dynamics that serves the head's training."""
CALLS = 4
"""K, its calls."""
FITTED = 12_000
"""Frames that the components are found in."""
INVERSE, STRAIGHTENING, NOISE = 0.3, 0.1, 0.1


class Learning(nn.Module):
    """What is trained together: the head, and three networks that are thrown away. A `core.types.WorldModel` on cells.

    Args:
        model: a `JointEmbeddingModel`, whose head is trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.state_shape: tuple[int, ...] = model.state_shape
        (size,) = self.state_shape
        self.history, self.action_dim, self.action_block = model.history, model.action_dim, BLOCK
        head = model.encoder[1]
        assert isinstance(head, ConvVectorHead)
        moves = BLOCK * self.action_dim
        self.head = head.net
        self.dynamics = ResidualMLP(self.history * (size + moves), 1024, 2, size)
        self.read = ResidualMLP(size, 512, 1, COMPONENTS)
        self.inverse = InverseDynamics(size, moves)
        self.register_buffer("mean", model.action_mean, persistent=False)
        self.register_buffer("std", model.action_std, persistent=False)

    def encode(self, obs: Observation) -> Tensor:
        """Cells [N, D, side, side] -> latents [N, D]."""
        latents: Tensor = self.head(obs)
        return latents

    def normalised(self, actions: Tensor) -> Tensor:
        """Blocks of environment actions [..., A] in the data's deviations from their mean."""
        blocks: Tensor = in_deviations(actions, self.mean, self.std)
        return blocks

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """[N, h, D] states and [N, h, A] actions -> [N, D]."""
        change: Tensor = self.dynamics(torch.cat([states.flatten(1), self.normalised(actions).flatten(1)], dim=1))
        return states[:, -1] + change


def as_maps(cells: NDArray[np.float16]) -> Tensor:
    """Cells in a row [N, P, D] -> maps in single precision [N, D, side, side]."""
    side = math.isqrt(cells.shape[1])
    maps: Tensor = torch.from_numpy(cells.astype(np.float32)).transpose(1, 2).unflatten(2, (side, side))
    return maps


class HeadTask(FrameWindows):
    """Batches and losses of the head.

    Args:
        learning: what is trained.
        data: actions and episode boundaries.
        episodes: to train on.
        cells: of all frames, [F, P, D].
        components: y of all frames, [F, C].
        batch: windows per step.
    """

    def __init__(
        self,
        learning: Learning,
        data: EpisodeDataset,
        episodes: NDArray[np.int64],
        cells: NDArray[np.float16],
        components: NDArray[np.float16],
        batch: int,
    ) -> None:
        super().__init__(learning, data)
        self.module = self.learning = learning
        self.presents = data.windows(episodes, CALLS * BLOCK + 1)
        self.cells, self.components, self.batch = cells, components, batch

    def draw(self, generator: np.random.Generator) -> Batch:
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        numbers, actions = self.numbers(present, CALLS)
        rows = numbers.flatten().numpy()
        wanted = torch.from_numpy(self.components[rows].astype(np.float32)).view(*numbers.shape, -1)
        (latent,) = self.learning.state_shape
        noise, directions = (
            torch.from_numpy(generator.standard_normal(shape, np.float32))
            for shape in ((*numbers.shape, latent), (DIRECTIONS, latent))
        )
        return as_maps(self.cells[rows]), wanted, actions, noise, directions

    def losses(self, batch: Batch, progress: float) -> Losses:
        cells, wanted, actions, noise, directions = batch
        learning, known = self.learning, self.learning.history
        latents = learning.encode(cells)
        states = latents.view(*wanted.shape[:2], -1)
        foreseen = unrolled(learning, states, actions, CALLS)
        told = learning.read(torch.cat([states[:, :known], foreseen], dim=1) + NOISE * noise).float()
        found = learning.inverse(states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)).float()
        change = states.float().diff(dim=1)
        terms = {
            "shown": 2 * functional.huber_loss(told[:, :known], wanted[:, :known]),
            "foreseen": 2 * functional.huber_loss(told[:, known:], wanted[:, known:]),
            "prediction": functional.mse_loss(foreseen.float(), states[:, known:].float()),
            "inverse": functional.mse_loss(found, learning.normalised(actions).flatten(0, 1)),
            "bend": 1 - functional.cosine_similarity(change[:, 1:], change[:, :-1], dim=2, eps=1e-3).mean(),
            "sigreg": sigreg(latents, directions),
        }
        weights = {"inverse": INVERSE, "bend": STRAIGHTENING}
        terms["loss"] = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return terms


class DecoderTask:
    """Batches and losses of a decoder that learns from fixed latents, and so shapes nothing.

    Args:
        model: whose decoder is trained.
        data: frames.
        frames: numbers of those to learn from, [N].
        latents: of all frames, [F, D].
        batch: frames per step.
    """

    def __init__(
        self,
        model: JointEmbeddingModel,
        data: EpisodeDataset,
        frames: NDArray[np.int64],
        latents: NDArray[np.float32],
        batch: int,
    ) -> None:
        assert model.decoder is not None
        self.module: nn.Module = model.decoder
        self.model, self.frames, self.batch = model, frames, batch
        self.latents, self.images = torch.from_numpy(latents), FrameSource(data, model.device)

    def draw(self, generator: np.random.Generator) -> Batch:
        numbers = torch.from_numpy(generator.choice(self.frames, self.batch))
        return self.latents[numbers], self.images(numbers)

    def losses(self, batch: Batch, progress: float) -> Losses:
        latents, images = batch
        return {"loss": reconstruction(self.model.drawn(latents), self.model.whitening(images))}


def kept(path: Path, frames: int, make: Callable[[NDArray[np.int64]], Tensor]) -> NDArray[np.float16]:
    """An array of all frames in a file in half precision, made in parts if it is not there."""
    if not path.is_file():
        parts = np.array_split(np.arange(frames), max(1, frames // 1000))
        with replacing(path) as temporary, torch.inference_mode():
            np.save(temporary, np.concatenate([make(part).half().numpy() for part in parts]))
        print(f"{path} made", flush=True)
    array: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return array


def evened_components(data: EpisodeDataset, frames: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Tensor]:
    """What gives y, see above, of frame numbers; found in some of the `frames`. Its mean square is about 1."""

    def small(numbers: NDArray[np.int64]) -> Tensor:
        images = torch.from_numpy(data.frames(numbers)).permute(0, 3, 1, 2).float() / 255
        return functional.avg_pool2d(images, 2).flatten(1)

    some = small(np.sort(np.random.default_rng(0).choice(frames, min(FITTED, len(frames)), replace=False)))
    mean = some.mean(0)
    variances, directions = principal_directions(some)
    matrix = directions / variances.clamp_min(1e-12).pow(0.25) / variances.clamp_min(0).sqrt().mean().sqrt()
    return lambda numbers: (small(numbers) - mean) @ matrix.float()


def begin(grid: Any) -> Any:
    """The vector model, a `JointEmbeddingModel`, with the grid's encoder, and everything else still at random."""
    sizes = {"grid": 0, "state_size": 128, "dynamics_mixing": 0}
    torch.manual_seed(0)
    model: Any = JointEmbeddingModel(replace(grid.config, **{**sizes, **VARIANTS[VARIANT].model}))
    model.whitening.load_state_dict(grid.whitening.state_dict())
    model.encoder[0].load_state_dict(grid.encoder[0].state_dict())
    model.encoder[1].cells[0].load_state_dict(grid.encoder[1].project.state_dict())
    model.encoder[1].cells[1].load_state_dict(grid.encoder[1].norm.state_dict())
    return model


def say(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
    print(f"{stage} {step}/{steps}  " + "  ".join(f"{k} {v:.4f}" for k, v in terms.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="data folders, and OUT/head/model")
    parser.add_argument("--grid", default="pusht-grid", help="the model whose encoder is kept")
    parser.add_argument("--share", type=float, default=0.5, help="of the data of joint_embeddings.py")
    parser.add_argument("--steps", type=int, default=8_000, help="of the head")
    parser.add_argument("--decoder-steps", type=int, default=4_000)
    parser.add_argument("--batch", type=int, default=256, help="windows per step of the head")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the CPU has instructions for it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    world = VARIANTS[VARIANT].world
    collect(arguments.out, {world}, arguments.share)
    grid = load_world_model(arguments.grid)
    folder: Path = arguments.out / "head"
    folder.mkdir(parents=True, exist_ok=True)
    data = EpisodeDataset(*(arguments.out / name for name in ("expert", "random")))
    training = data.split(0.05)[0]
    frames = data.frame_numbers(training)
    cells = kept(folder / "cells.npy", len(data), lambda numbers: grid.encode(torch.from_numpy(data.frames(numbers))))
    components = kept(folder / "components.npy", len(data), evened_components(data, frames))
    model = begin(grid)
    stage = Stage("head", arguments.steps, arguments.batch, learning_rate=1e-3)
    task = HeadTask(Learning(model), data, training, cells, components, arguments.batch)
    run_stage(stage, task, folder, 0, say, arguments.bfloat16)
    model.eval()
    (folder / "latents.npy").unlink(missing_ok=True)

    head = model.encoder[1].net
    latents = kept(folder / "latents.npy", len(data), lambda numbers: head(as_maps(cells[numbers]))).astype(np.float32)
    stage = Stage("decoder", arguments.decoder_steps, 64, learning_rate=1e-3)
    run_stage(stage, DecoderTask(model, data, frames, latents, 64), folder, 1, say, arguments.bfloat16)
    save_pretrained(model, folder / "model", {"grid": arguments.grid, "data": data.settings})
    print(f"{folder / 'model'} written; its dynamics is untrained", flush=True)


if __name__ == "__main__":
    main()
