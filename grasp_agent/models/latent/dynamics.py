"""Latent dynamics: windows of states and actions -> the next state.

Every class maps `states` [N, h, D] and `actions` [N, h, A], in environment units, to the next state [N, D];
`action_scale` is the action that counts as 1 inside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
