"""Latent dynamics on normalised actions: states [N, h, *S] and actions [N, h, A] -> the next state [N, *S]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.models.joint_embedding.config import JointEmbeddingConfig
from grasp_agent.models.joint_embedding.encoders import ResidualBlock
from grasp_agent.models.latent.dynamics import MLPDynamics, ResidualDynamics

SQUEEZED = 16
"""Channels of the maps that layers over all cells read and write."""


def make_dynamics(config: JointEmbeddingConfig) -> nn.Module:
    """The dynamics that a config asks for."""
    sizes = (config.state_size, config.action_dim * config.action_block, config.history, config.dynamics_hidden)
    if config.grid:
        return ConvDynamics(config.grid, *sizes, config.dynamics_depth, config.dynamics_mixing)
    if config.dynamics_blocks:
        return ResidualDynamics(*sizes, config.dynamics_blocks)
    return MLPDynamics(*sizes, config.dynamics_depth)


class ConvDynamics(nn.Module):
    """Residual convolutions over a grid of cells [N, h, P, D]; the actions are told to every cell.

    Local, as contact is, and the same everywhere. Each block tells the cells what holds on average over all of them.
    A push turns a body as a whole, though, by an angle that depends on where exactly it is hit. For that, `mixing`
    puts layers that read and write all cells at once behind every other block; it is their width.
    """

    def __init__(
        self, grid: int, state_size: int, action_size: int, history: int, channels: int, depth: int, mixing: int = 0
    ) -> None:
        super().__init__()
        self.grid = grid
        self.cells = nn.Conv2d(history * state_size, channels, 3, padding=1)
        self.actions = nn.Linear(history * action_size, channels * depth)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(depth))
        told, mixed = history * action_size, (depth + 1) // 2 if mixing else 0
        self.mixing = nn.ModuleList(MixingBlock(grid, channels, told, mixing) for _ in range(mixed))
        self.out = nn.Conv2d(channels, state_size, 3, padding=1)
        nn.init.normal_(self.out.weight, std=0.01 / channels**0.5)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        cells = states.transpose(2, 3).flatten(1, 2).unflatten(2, (self.grid, self.grid))
        x = self.cells(cells)
        told = self.actions(actions.flatten(1)).unflatten(1, (len(self.blocks), -1))
        for i, block in enumerate(self.blocks):
            x = block(x + told[:, i, :, None, None] + x.mean((2, 3), keepdim=True))
            if self.mixing and i % 2 == 0:
                x = self.mixing[i // 2](x, actions.flatten(1))
        change: Tensor = self.out(x)
        return states[:, -1] + change.flatten(2).transpose(1, 2)


class MixingBlock(nn.Module):
    """x + a network of all cells, squeezed to few channels, and of the actions; the last layer starts at zero.

    [N, C, H, W] and actions [N, A] -> the same shape as x.
    """

    def __init__(self, grid: int, channels: int, action_size: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, SQUEEZED, 1)
        numbers = SQUEEZED * grid**2
        self.net = nn.Sequential(
            nn.Linear(numbers + action_size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, numbers), nn.Unflatten(1, (SQUEEZED, grid, grid)),
        )  # fmt: skip
        self.widen = nn.Conv2d(SQUEEZED, channels, 1, bias=False)
        nn.init.zeros_(self.widen.weight)

    def forward(self, x: Tensor, actions: Tensor) -> Tensor:
        result: Tensor = x + self.widen(self.net(torch.cat([self.squeeze(x).flatten(1), actions], dim=1)))
        return result


class InverseDynamics(nn.Module):
    """The normalised actions [N, A] between two latents [N, D]; of a grid, all cells in one row."""

    def __init__(self, state_numbers: int, action_size: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2 * state_numbers, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, action_size),
        )  # fmt: skip

    def forward(self, states: Tensor, following: Tensor) -> Tensor:
        change = following - states
        actions: Tensor = self.net(torch.cat([states.flatten(1), change.flatten(1)], dim=1))
        return actions
