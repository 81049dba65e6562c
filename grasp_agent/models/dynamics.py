"""Latent dynamics: windows of states and actions -> the next state.

Every class maps `states` [N, h, D] and `actions` [N, h, A] (scaled to order 1) to the next state [N, D].
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

    def __init__(self, state_size: int, action_size: int, history: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.net = mlp(history * (state_size + action_size), hidden, depth, state_size)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        change: Tensor = self.net(torch.cat([states.flatten(1), actions.flatten(1)], dim=1))
        return states[:, -1] + change


class PlanarPushDynamics(nn.Module):
    """One pusher and one pushed body in the plane, seen from the body.

    The state is (pusher x, y; body x, y; rho cos, rho sin of the body's angle), all in one length unit; an
    action is 2-d and moves the pusher along the world's axes. Everything that says where the pusher is and goes
    is turned into the body's frame, where pushing looks the same wherever the body lies; where the body lies is
    given too, for the walls. The network predicts the body's motion in its own frame and a correction to the
    pusher's, whose main part is a learned linear filter of its last displacements and of the actions. The
    arithmetic is laid out for few tensor operations: a plan calls it step after step.

    Args:
        history: h, frames in the window.
        hidden: width of the network.
        depth: its hidden layers.
        radius: rho.
        length: typical distance in the state's unit, to scale positions to order 1.
    """

    turn_matrix: Tensor
    quarter_turn: Tensor

    def __init__(self, history: int, hidden: int, depth: int, radius: float, length: float, waves: int = 24) -> None:
        super().__init__()
        self.radius, self.length = radius, length
        vectors = 2 * history + 1
        self.waves = nn.Linear(2, waves)
        nn.init.normal_(self.waves.weight, std=8.0)
        nn.init.uniform_(self.waves.bias, -torch.pi, torch.pi)
        self.net = mlp(2 * vectors + 4 + waves, hidden, depth, 5)
        self.filter = nn.Parameter(torch.zeros(1, 2 * history - 1))
        # heading (c, s) -> the matrix ((c, -s), (s, c)) that a row vector is multiplied by to enter the body's frame
        turn = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, -1.0, 1.0, 0.0]])
        self.register_buffer("turn_matrix", turn / radius, persistent=False)
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        present = states[:, -1]
        pusher, body, heading = present.split(2, dim=1)
        into_body = (heading @ self.turn_matrix).view(-1, 2, 2)
        motion = torch.cat([states[:, 1:, 0:2] - states[:, :-1, 0:2], actions], dim=1)  # [N, 2h - 1, 2]
        where = torch.stack([pusher - body, body], dim=1) / self.length
        in_body = torch.bmm(torch.cat([where, motion], dim=1), into_body)  # [N, 2h + 1, 2]
        waves = self.waves(in_body[:, 0]).sin()
        out = self.net(torch.cat([in_body.flatten(1), present[:, 2:6] / self.length, waves], dim=1))

        shift = torch.bmm(out[:, 0:4].view(-1, 2, 2), into_body.transpose(1, 2))  # back to the world's axes
        shift = torch.cat([shift[:, 0] + (self.filter @ motion)[:, 0], shift[:, 1]], dim=1)
        turn = out[:, 4:5]
        heading = heading * turn.cos() + (heading @ self.quarter_turn) * turn.sin()
        return torch.cat([present[:, 0:4] + shift, heading], dim=1)
