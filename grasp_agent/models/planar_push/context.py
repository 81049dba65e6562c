"""What proposals for a pusher and a body are conditioned on."""

from __future__ import annotations

import torch
from torch import Tensor


class PlanarPushContext:
    """A pusher and a body in the plane, seen from the body (a `grasp_agent.models.proposals.flow.Context`).

    What may be left out of the goal is the pusher's place: how to bring the body to a far goal hardly depends on
    where the pusher stands in the end.
    """

    def __init__(self, history: int, radius: float, length: float, action_scale: float) -> None:
        self.radius, self.length, self.action_scale = radius, length, action_scale
        self.vectors = 5 + 2 * (history - 1)
        self.size = 2 * self.vectors + 12 + 4 + 1

    def __call__(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        now = states[:, -1]
        cos, sin = now[:, 4:5] / self.radius, now[:, 5:6] / self.radius
        turn = torch.stack([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)], dim=1)
        pusher, body = now[:, 0:2], now[:, 2:4]
        near = [
            (pusher - body) / self.length,
            (goal[:, 2:4] - body) / self.length,
            (goal[:, 0:2] - body) / self.length * shown,
        ]
        rest = [(goal[:, 0:2] - goal[:, 2:4]) / self.length * shown, goal[:, 4:6] / self.radius]
        moved = (states[:, 1:, 0:2] - states[:, :-1, 0:2]).unbind(1)
        done = (past_actions / self.action_scale).unbind(1)
        seen = torch.bmm(torch.stack([*near, *rest, *moved, *done], dim=1), turn).flatten(1)
        fine = 4.0 * seen[:, :6]
        return torch.cat([seen, fine.sin(), fine.cos(), body / self.length, cos, sin, shown], dim=1), turn
