"""What plan proposals of sprites are conditioned on."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_agent.models.sprites.config import SpritesConfig
from grasp_agent.models.sprites.dynamics import LENGTH
from grasp_agent.models.sprites.turning import axis_of


class SpritesContext:
    """All places, headings and motions as seen from the largest turning sprite (a `proposals.flow.Context`).

    What may be left out of the goal are the places of the other sprites: how to bring that sprite to a far goal hardly
    depends on where the others stand in the end. Without a turning sprite, or for actions that are not two numbers, the
    frame has the axes of the picture.
    """

    def __init__(self, config: SpritesConfig) -> None:
        self.config = config
        self.sprite = max(config.turning or range(len(config.sprites)), key=lambda i: config.sprites[i].area)
        self.turns = self.sprite in config.turning and config.action_dim == 2
        sprites = len(config.sprites)
        self.near = 2 * (2 * sprites - 1)
        moved, acted = 2 * (sprites - 1) * (config.history - 1), (config.history - 1) * config.action_dim
        self.size = 3 * self.near + moved + 4 * len(config.turning) + acted + 3

    def __call__(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        config, now, rows = self.config, states[:, -1], len(goal)
        sprites, dim = len(config.sprites), config.action_dim
        here = self._place(now, self.sprite)
        others = [k for k in range(sprites) if k != self.sprite]
        near = [self._place(now, k) - here for k in others]
        near += [self._place(goal, self.sprite) - here]
        near += [(self._place(goal, k) - here) * shown for k in others]
        moved = [d for k in others for d in self._place(states, k).diff(dim=1).unbind(1)]
        headings = [(k, self._heading(s, k)) for s in (now, goal) for k in config.turning]
        plain = [heading for k, heading in headings if config.sprites[k].symmetry > 1]  # turn faster than the frame
        turning = [heading for k, heading in headings if config.sprites[k].symmetry == 1]
        into = torch.eye(2, device=goal.device, dtype=goal.dtype).expand(rows, -1, -1)
        if self.turns:
            axis = axis_of(self._heading(now, self.sprite), config.sprites[self.sprite].symmetry)
            cos, sin = axis.unbind(1)
            into = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        vectors = torch.stack([*[v / LENGTH for v in near], *moved, *turning], dim=1)
        acted = past_actions.unflatten(2, (-1, dim)).flatten(1, 2) / config.action_scale
        turn = into if self.turns else torch.eye(dim, device=goal.device, dtype=goal.dtype).expand(rows, -1, -1)
        seen, done = torch.bmm(vectors, into).flatten(1), torch.bmm(acted, turn).flatten(1)
        fine = 4.0 * seen[:, : self.near]
        return torch.cat([seen, fine.sin(), fine.cos(), done, *plain, here / LENGTH, shown], dim=1), turn

    def _place(self, states: Tensor, sprite: int) -> Tensor:
        first = self.config.place(sprite)
        return states[..., first : first + 2]

    def _heading(self, states: Tensor, sprite: int) -> Tensor:
        first = self.config.heading(sprite)
        return states[..., first : first + 2] / self.config.heading_length(sprite)
