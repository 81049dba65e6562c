"""The dynamics of one pusher and one pushed body."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.models.latent.dynamics import mlp


class PlanarPushDynamics(nn.Module):
    """One pusher and one pushed body in the plane, seen from the body.

    The state is (pusher x, y; body x, y; rho cos, rho sin of the body's angle), all in one length unit; an
    action is 2-d and moves the pusher along the world's axes. Everything that says where the pusher is and goes
    is turned into the body's frame, where pushing looks the same wherever the body lies; where the body lies is
    given too, for the walls. The network predicts the body's motion in its own frame and a correction to the
    pusher's, whose main part is a learned linear filter of its last displacements and of the actions.

    A plan calls this step after step, and small tensors cost by the operation, not by the number: whatever is linear
    in the window (differences, scaled positions, the rotation's entries) comes from one product with a constant.

    Args:
        history: h, frames in the window.
        hidden: width of the network.
        depth: its hidden layers.
        radius: rho.
        length: typical distance in the state's unit, to scale positions to order 1.
        action_scale: the action that counts as 1.
        waves: sine features of the pusher's place, for sharp edges of contact.
    """

    linear_parts: Tensor
    spread: Tensor

    def __init__(
        self,
        history: int,
        hidden: int,
        depth: int,
        radius: float,
        length: float,
        action_scale: float = 1.0,
        waves: int = 24,
    ) -> None:
        super().__init__()
        vectors = 2 * history + 1  # pusher - body, body, h - 1 displacements of the pusher, h actions
        self.parts = [2 * vectors, 4, 4, 4, 4]
        self.waves = nn.Linear(2, waves)
        nn.init.normal_(self.waves.weight, std=8.0)
        nn.init.uniform_(self.waves.bias, -torch.pi, torch.pi)
        self.net = mlp(2 * vectors + 4 + waves, hidden, depth, 5)
        self.filter = nn.Parameter(torch.zeros(1, 2 * history - 1))
        linear_parts = _linear_parts(history, radius, length, action_scale)
        self.register_buffer("linear_parts", linear_parts, persistent=False)
        # filter -> [2 vectors, 4]: the filter moves the pusher alone, by the motion vectors alone
        spread = torch.zeros(2 * history - 1, 2 * vectors, 4)
        for i in range(2 * history - 1):
            spread[i, 2 * (i + 2) : 2 * (i + 3), 0:2] = torch.eye(2)
        self.register_buffer("spread", spread.flatten(1), persistent=False)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        window = torch.cat([states.flatten(1), actions.flatten(1)], dim=1)
        vectors, turn, place, headings, position = (window @ self.linear_parts).split(self.parts, dim=1)
        into_body = turn.view(-1, 2, 2)
        in_body = torch.bmm(vectors.view(len(window), -1, 2), into_body).flatten(1)
        weight = functional.pad(self.waves.weight, (0, in_body.shape[1] - 2))  # reads the first vector only
        waves = functional.linear(in_body, weight, self.waves.bias).sin()
        shift, angle = self.net(torch.cat([in_body, place, waves], dim=1)).split([4, 1], dim=1)

        shift = torch.bmm(shift.view(-1, 2, 2), into_body.transpose(1, 2)).flatten(1)  # back to the world's axes
        by_filter = (self.filter @ self.spread).view(-1, 4)
        rotation = torch.cat([angle.cos(), angle.sin()], dim=1).unsqueeze(1)
        heading = torch.bmm(rotation, headings.view(-1, 2, 2)).flatten(1)
        return torch.cat([position + torch.addmm(shift, vectors, by_filter), heading], dim=1)


def _linear_parts(history: int, radius: float, length: float, action_scale: float) -> Tensor:
    """The matrix from a flat window (h states of 6, h actions of 2) to all that is linear in it.

    Columns: the vectors (two each); the matrix ((c, -s), (s, c)) that a row vector is multiplied by to enter the body's
    frame; body position and heading over `length`; the heading and the heading a quarter turn on; both positions.
    """
    last = 6 * (history - 1)
    window = 8 * history
    columns: list[Tensor] = []

    def column(entries: dict[int, float]) -> None:
        c = torch.zeros(window)
        for row, value in entries.items():
            c[row] = value
        columns.append(c)

    for axis in (0, 1):
        column({last + axis: 1 / length, last + 2 + axis: -1 / length})
    for axis in (0, 1):
        column({last + 2 + axis: 1 / length})
    for t in range(history - 1):
        for axis in (0, 1):
            column({6 * (t + 1) + axis: 1.0, 6 * t + axis: -1.0})
    for t in range(history):
        for axis in (0, 1):
            column({6 * history + 2 * t + axis: 1 / action_scale})
    cos, sin = last + 4, last + 5
    for entries in ({cos: 1 / radius}, {sin: -1 / radius}, {sin: 1 / radius}, {cos: 1 / radius}):
        column(entries)
    for i in range(4):
        column({last + 2 + i: 1 / length})
    for entries in ({cos: 1.0}, {sin: 1.0}, {sin: -1.0}, {cos: 1.0}):
        column(entries)
    for i in range(4):
        column({last + i: 1.0})
    return torch.stack(columns, dim=1)
