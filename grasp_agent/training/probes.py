"""What a latent knows: probes from latents to the simulator's state.

A probe is a small regression fitted on training episodes with the model fixed, and judged on held-out ones; the
states serve to measure and never reach the model. Two of them:

    linear    W z + b by ridge regression,  min over W of  | Y - Z W |^2 + alpha N | W |^2  with standardised Z, Y
    network   two hidden layers, for a grid of cells behind two convolutions; AdamW on the same standardised pairs

What the linear probe reads lies in the latent as it is measured by a planner's squared distance; what only the
network reads is there, but folded. Without convolutions a network reads a grid badly: in one shipped grid it finds a
block to 7 px, with them to 2. Source of the method: Alain and Bengio, arXiv 1610.01644.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.dynamics import mlp

FITTED = 20_000
"""Frames of training episodes that probes are fitted on, at most."""

BATCH = 512
EPOCHS = 25

CHANNELS = 32
"""Of a network's convolutions."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A read-out of standardised latents.

    Attributes:
        mean: of the latents, [D].
        deviation: of the latents, [D].
        net: standardised latents [N, D] -> what is read [N, P].
    """

    mean: Tensor
    deviation: Tensor
    net: nn.Module

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Read latents [..., D] out -> [..., P]."""
        read: Tensor = self.net((latents - self.mean) / self.deviation)
        return read


def fit_linear(latents: Tensor, targets: Tensor, alpha: float = 1e-4) -> Probe:
    """Ridge regression from latents [N, D] to targets [N, P].

    Args:
        latents: what is read.
        targets: what is to be read from it.
        alpha: ridge, relative to the variance of a standardised latent number.
    """
    mean, deviation = _moments(latents)
    z = ((latents - mean) / deviation).double()
    centre = targets.double().mean(0)
    ridge = alpha * len(z) * torch.eye(z.shape[1], dtype=z.dtype)
    weight = torch.linalg.solve(z.T @ z + ridge, z.T @ (targets.double() - centre))
    net = nn.utils.skip_init(nn.Linear, *weight.shape)  # draws no random numbers
    net.weight.data, net.bias.data = weight.T.float(), centre.float()
    return Probe(mean, deviation, net)


def fit_mlp(latents: Tensor, targets: Tensor, hidden: int = 256, seed: int = 0, cells: int = 0) -> Probe:
    """A network of two hidden layers from latents [N, D] to targets [N, P].

    Args:
        latents: what is read.
        targets: what is to be read from it.
        hidden: width of the layers.
        seed: of initial weights and batches.
        cells: in a row, if the latents are square grids of them, one cell after the other; the network then begins
            with two convolutions.
    """
    mean, deviation = _moments(latents)
    centre, spread = _moments(targets)
    z, y = (latents - mean) / deviation, (targets - centre) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        looking = [_Convolutions(cells, z.shape[1] // cells)] if cells else []
        net = nn.Sequential(*looking, *mlp(CHANNELS * cells if cells else z.shape[1], hidden, 2, y.shape[1]))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    batches = [rows for _ in range(EPOCHS) for rows in torch.randperm(len(z), generator=generator).split(BATCH)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(batches))
    for rows in batches:
        optimiser.zero_grad(set_to_none=True)
        functional.smooth_l1_loss(net(z[rows]), y[rows], beta=0.1).backward()
        optimiser.step()
        schedule.step()
    last = net[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data, last.bias.data = last.weight.data * spread[:, None], last.bias.data * spread + centre
    return Probe(mean, deviation, net.requires_grad_(False))


class _Convolutions(nn.Module):
    """Grids [N, P * D] of P cells -> [N, P * CHANNELS], by two convolutions."""

    def __init__(self, cells: int, numbers: int) -> None:
        super().__init__()
        self.side = math.isqrt(cells)
        self.shape = (cells, numbers)
        self.net = nn.Sequential(
            nn.Conv2d(numbers, CHANNELS, 3, padding=1), nn.SiLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.SiLU(),
        )  # fmt: skip

    def forward(self, grids: Tensor) -> Tensor:
        maps = grids.unflatten(1, self.shape).transpose(1, 2).unflatten(2, (self.side, self.side))
        read: Tensor = self.net(maps).flatten(1)
        return read


def fit_probes(
    latents: NDArray[np.float32], targets: NDArray[np.float32], frames: NDArray[np.int64], seed: int = 0
) -> dict[str, Probe]:
    """Probes "linear" and "network" from latents, all their numbers in one row, to targets.

    Args:
        latents: of all frames, vectors [F, D] or grids [F, P, D].
        targets: of all frames, [F, P]: the simulator's states as latents (see `StateLayout.latents_of_states`).
        frames: numbers of the frames to fit on; of many, `FITTED` are drawn.
        seed: of the drawing and of the network.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(frames, min(FITTED, len(frames)), replace=False)
    z, y = torch.from_numpy(latents[chosen]).flatten(1), torch.from_numpy(targets[chosen])
    cells = latents.shape[1] if latents.ndim == 3 else 0
    return {"linear": fit_linear(z, y), "network": fit_mlp(z, y, seed=seed, cells=cells)}


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the columns; what never changes is left in its own unit."""
    deviation = values.std(0, correction=0)
    return values.mean(0), torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
