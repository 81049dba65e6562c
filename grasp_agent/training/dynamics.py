"""Stage 2: the dynamics, on the latents of stage 1, rolled out over several steps.

    loss = mean over t = 1..K and batch of  huber_delta(s_hat_t - s_t),   s_hat_t = F(s_hat_{t-h..t-1}, a_{t-h..t-1})

The targets are encodings of real frames by the encoder of stage 1, which is fixed (a joint-embedding prediction
loss that cannot collapse). The number of steps K grows in the course of training. Huber: contacts that are
missed or invented are outliers of many times the typical error, and squared they would be all that is learnt.
Errors below delta count squared, larger ones linearly.

Most of a latent's variance can belong to a thing that matters no more than others: one whose place shows in all cells
of a grid, say, while another's shows in few. An unweighted error then teaches little about the other one. So the same
loss of the latents' principal components, each divided by its deviation, can be added:

    loss + lambda_w  mean over t and batch of  huber_delta(W (s_hat_t - s_t)),    W = diag(lambda)^(-1/2) U^T
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from grasp_agent.core.types import WorldModel
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.training.loop import Batch, Losses

HUBER = 0.25
"""Delta for latents whose numbers are of order one."""

COMPONENTS = 256
"""Principal components that a whitened loss counts, at most."""

FITTED = 20_000
"""Frames, about, that they are found in."""


class FrameWindows:
    """Windows of frames and actions around frames of the data.

    Args:
        model: whose history and action block they follow.
        data: actions and episode boundaries.
    """

    def __init__(self, model: WorldModel, data: EpisodeDataset) -> None:
        self.model = model
        self.actions = torch.from_numpy(data.actions)
        self.episode_start = torch.from_numpy(np.repeat(data.starts, data.lengths))

    def numbers(self, present: Tensor, unroll: int) -> tuple[Tensor, Tensor]:
        """Windows around the present frames [B]: frame numbers [B, h + K], actions [B, h + K - 1, A].

        Before an episode's first frame the history repeats that frame with zero actions, as the agent's does; a block
        that begins before it and ends after holds both zeros and actions.
        """
        k = self.model.action_block
        offsets = torch.arange(1 - self.model.history, unroll + 1) * k
        wanted = present[:, None] + offsets
        first = self.episode_start[present][:, None]
        of_blocks = wanted[:, :-1, None] + torch.arange(k)  # [B, h + K - 1, k]
        begun = of_blocks >= first[..., None]
        actions = self.actions[of_blocks.clamp_min(0)] * begun[..., None]
        return wanted.maximum(first), actions.flatten(2)


class LatentWindows(FrameWindows):
    """Windows of latents and actions around frames of the data.

    Args:
        model: whose history and action block they follow.
        data: actions and episode boundaries.
        latents: of all frames, [F, D].
    """

    model: LatentWorldModel

    def __init__(self, model: LatentWorldModel, data: EpisodeDataset, latents: NDArray[np.float32]) -> None:
        super().__init__(model, data)
        self.latents = torch.from_numpy(latents)

    def window(self, present: Tensor, unroll: int) -> tuple[Tensor, Tensor]:
        """As `numbers`, with the frames' latents: states [B, h + K, D], actions [B, h + K - 1, A]."""
        numbers, actions = self.numbers(present, unroll)
        return self.latents[numbers], actions

    def moved(self, states: Tensor, actions: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Each row changed by a random symmetry: states [B, W, D], actions [B, W', A or action_dim]."""
        moves = actions.reshape(len(actions), -1, self.model.action_dim)
        states, moves = self.model.layout.random_symmetry(states, moves, generator)
        return states, moves.reshape_as(actions)


class DynamicsTask(LatentWindows):
    """Batches and losses of stage 2.

    Args:
        model: its dynamics is trained.
        data: actions and episode boundaries.
        latents: of all frames, [F, D].
        episodes: to train on.
        batch: windows per step.
        unroll: K at the end of training; it starts at K / 4.
        symmetry: augment by the symmetries that the model's layout knows.
        huber: delta, the error up to which errors count squared, in the latent's unit.
        whitened: lambda_w, weight of the errors of the latents' principal components.
    """

    def __init__(
        self,
        model: LatentWorldModel,
        data: EpisodeDataset,
        latents: NDArray[np.float32],
        episodes: NDArray[np.int64],
        batch: int,
        unroll: int,
        symmetry: bool,
        huber: float = HUBER,
        whitened: float = 0.0,
    ) -> None:
        super().__init__(model, data, latents)
        self.module = model.dynamics
        self.presents = data.windows(episodes, unroll * model.action_block + 1)
        self.batch = batch
        self.unroll = unroll
        self.symmetry = symmetry
        self.huber = huber
        self.whitened = whitened
        if whitened:
            frames = data.frame_numbers(episodes)
            some = frames[:: max(1, len(frames) // FITTED)]
            self.components = principal_components(self.latents[some].flatten(1)).to(model.device)

    def draw(self, generator: np.random.Generator) -> Batch:
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        states, actions = self.window(present, self.unroll)
        if self.symmetry:
            states, actions = self.moved(states, actions, generator)
        return states, actions

    def losses(self, batch: Batch, progress: float) -> Losses:
        states, actions = batch
        unroll = max(1, min(self.unroll, int(self.unroll * (0.25 + progress))))
        predicted = unrolled(self.model, states, actions, unroll)
        wanted = states[:, self.model.history : self.model.history + unroll]
        gap = predicted - wanted
        terms = {"loss": self._error(gap)}
        if self.whitened:
            terms["whitened"] = self._error(gap.flatten(2) @ self.components)
            terms["loss"] = terms["loss"] + self.whitened * terms["whitened"]
        return terms

    def _error(self, gap: Tensor) -> Tensor:
        return functional.huber_loss(gap, torch.zeros_like(gap), delta=self.huber) * (2.5 / self.huber)


def principal_directions(values: Tensor) -> tuple[Tensor, Tensor]:
    """The `COMPONENTS` directions, at most, in which values [N, D] vary most: variances [C] and directions [D, C]."""
    centred = values - values.mean(0)
    variances, directions = torch.linalg.eigh((centred.T @ centred / len(values)).double())
    return variances.flip(0)[:COMPONENTS], directions.flip(1)[:, :COMPONENTS]


def principal_components(latents: Tensor) -> Tensor:
    """The directions in which latents vary most, each divided by the deviation along it.

    Args:
        latents: [N, D].

    Returns:
        W^T [D, C]: what `latents @ W^T` gives has deviation 1 in each of its C numbers. C is `COMPONENTS`, or as many
        as hold more than a millionth of the largest variance.
    """
    variances, directions = principal_directions(latents)
    kept = variances > 1e-6 * variances[0]
    components: Tensor = (directions[:, kept] / variances[kept].sqrt()).float()
    return components


def unrolled(model: WorldModel, states: Tensor, actions: Tensor, steps: int) -> Tensor:
    """Roll the dynamics out from the first h states: [B, >= h, D], [B, >= h + steps - 1, A] -> [B, steps, D]."""
    h = model.history
    path = list(states[:, :h].unbind(1))
    for t in range(steps):
        path.append(model.predict(torch.stack(path[-h:], 1), actions[:, t : t + h]))
    return torch.stack(path[h:], 1)
