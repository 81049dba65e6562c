"""Latent dynamics: windows of states and actions -> the next state.

Every class maps `states` [N, h, D] and `actions` [N, h, A], in environment units, to the next state [N, D];
`action_scale` is the action that counts as 1 inside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ENLARGED = 4.0
"""What changes of a state are multiplied by where `ResidualDynamics` reads them."""


def mlp(features: int, hidden: int, depth: int, out_features: int) -> nn.Sequential:
    """`depth` hidden SiLU layers; the last layer starts small, so that an untrained model predicts almost no change."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(features, hidden), nn.SiLU()]
        features = hidden
    last = nn.Linear(features, out_features)
    nn.init.normal_(last.weight, std=0.1 / hidden**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def residual_blocks(hidden: int, blocks: int) -> nn.ModuleList:
    """What is to be added to x [..., hidden], one after the other: a normalisation and a network of two layers each."""
    return nn.ModuleList(
        nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        for _ in range(blocks)
    )


class MLPDynamics(nn.Module):
    """Residual MLP on the whole window: the general choice for vector latents."""

    def __init__(
        self, state_size: int, action_size: int, history: int, hidden: int, depth: int, action_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.action_scale = action_scale
        self.net = mlp(history * (state_size + action_size), hidden, depth, state_size)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        change: Tensor = self.net(torch.cat([states.flatten(1), actions.flatten(1) / self.action_scale], dim=1))
        return states[:, -1] + change


class ResidualMLP(nn.Module):
    """Blocks x + network(norm(x)) between two linear layers, [..., features] -> [..., out_features].

    At first a block does nothing, and the last layer tells next to nothing.
    """

    def __init__(self, features: int, hidden: int, blocks: int, out_features: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(features, hidden), nn.SiLU())
        self.blocks = residual_blocks(hidden, blocks)
        for block in self.blocks:
            for values in block[-1].parameters():  # type: ignore[index]
                nn.init.zeros_(values)
        self.last = nn.Linear(hidden, out_features)
        nn.init.normal_(self.last.weight, std=0.1 / hidden**0.5)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        result: Tensor = self.last(x)
        return result


class ResidualDynamics(nn.Module):
    """`ResidualMLP` on the present state, its changes and the actions: for vector latents of many numbers.

    From one frame to the next a state changes little. So changes within the window are given on their own, enlarged.
    """

    def __init__(self, state_size: int, action_size: int, history: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.net = ResidualMLP(history * (state_size + action_size), hidden, blocks, state_size)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        present, changes = states[:, -1], states.diff(dim=1)
        change: Tensor = self.net(torch.cat([present, ENLARGED * changes.flatten(1), actions.flatten(1)], dim=1))
        return present + change
