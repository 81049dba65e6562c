"""How sprites move each other: every motion as it looks from the turning things."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.models.latent.dynamics import mlp
from grasp_agent.models.sprites.config import SpritesConfig
from grasp_agent.models.sprites.turning import axis_of

LENGTH = 5.0
"""Latent units that count as 1 where places are given to a network."""

REST = 0.03
"""Latent units: what would move a sprite by less hardly does (see `rested`)."""

LEAST_DRIVE = 0.25
"""The actions drive a sprite themselves if they move it this many times as far as any other; by less, hardly."""

TINY = 1e-8
"""Keeps a filter that is still zero from a division by zero."""

WAVES = 24
"""Sine features of each other sprite's place, for sharp edges of contact."""


class SpriteDynamics(nn.Module):
    """States [N, h, D] and actions [N, h, A], in environment units, to the next state [N, D].

    Nobody says which sprite is pushed and which pushes. In the frame of a turning sprite j (its place, its heading),
    pushing looks the same wherever it lies, so each frame has a network f_j:

        shift of sprite i = sum_j R_j f_ji(all places, displacements, headings and actions as seen in frame j)
                            + a learned linear filter of its own displacements and of the actions,
        turn of sprite i  = sum_j g_ji(the same).

    What is at rest and not touched stays where it is. A network is rarely exactly zero, and a planner finds every plan
    in which a body creeps to its goal by itself, a tenth of a pixel a step. So motions that the networks tell pass
    through a dead band (`rested`), and the filter of the actions is left to the sprites that they drive.

    Where j lies and how it is turned is given too, for the walls. If no sprite has a heading, every sprite's frame has
    the axes of the picture. Actions are seen in the frame pair by pair; of an odd number, as they are.

    A plan calls this step after step, and small tensors cost by the operation: all that is linear in the window comes
    from one product with a constant.

    Args:
        config: sizes and sprites.
    """

    linear: Tensor
    least_turns: Tensor

    def __init__(self, config: SpritesConfig) -> None:
        super().__init__()
        self.config = config
        self.frames = config.turning or tuple(range(len(config.sprites)))
        sprites, turning, actions = len(config.sprites), len(config.turning), config.history * config.action_dim
        columns = [_Window(config).seen_from(j) for j in self.frames]
        last = _Window(config).displacements().actions().present()
        self.register_buffer("linear", torch.cat([c.matrix() for c in [*columns, last]], dim=1), persistent=False)
        sizes = [size for c in columns for size in c.sizes]
        self.sizes = [*sizes, 2 * sprites * (config.history - 1), actions, 2 * sprites + 4 * turning]
        vectors, plain = columns[0].sizes[:2]
        near = 2 * max(sprites - 1, 1)
        out = 2 * sprites + turning
        self.networks = nn.ModuleList(
            mlp(vectors + plain + WAVES, config.dynamics_hidden, config.dynamics_depth, out) for _ in self.frames
        )
        self.waves = nn.ModuleList(_waves(near) for _ in self.frames)
        turns = [REST / config.heading_length(k) for k in config.turning]
        self.register_buffer("least_turns", torch.tensor(turns).unsqueeze(1), persistent=False)
        self.own = nn.Parameter(torch.zeros(sprites, config.history - 1, 1))
        self.driven = nn.Parameter(torch.zeros(actions, 2 * sprites))

    @property
    def moved_by_actions(self) -> tuple[bool, ...]:
        """Whether the actions move a sprite themselves: by the linear filter, at least half as far as any other."""
        reach = self._square_reach().detach().sqrt()
        return tuple((reach >= 0.5 * reach.max()).tolist())

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        sprites, turning, rows = len(self.config.sprites), len(self.config.turning), len(states)
        window = torch.cat([states.flatten(1), actions.flatten(1)], dim=1)
        parts = list((window @ self.linear).split(self.sizes, dim=1))
        moved, acted, present = parts[-3:]
        shift = states.new_zeros(rows, 2 * sprites)
        angles = states.new_zeros(rows, turning)
        for j, network, waves in zip(self.frames, self.networks, self.waves, strict=True):
            seen, plain = parts.pop(0), parts.pop(0)
            if turning:
                into = self._into(parts.pop(0), j).view(-1, 2, 2)
                seen = torch.bmm(seen.view(rows, -1, 2), into).flatten(1)
            near = waves(seen[:, : waves.in_features]).sin()  # the first vectors are the places of the others
            told = network(torch.cat([seen, plain, near], dim=1))
            there = told[:, : 2 * sprites]
            if turning:
                there = torch.bmm(there.view(rows, -1, 2), into.transpose(1, 2)).flatten(1)
                angles = angles + told[:, 2 * sprites :]
            shift = shift + there
        shift = rested(shift.view(rows, sprites, 2), REST).flatten(1)
        shift = shift + (moved.view(rows, sprites, -1, 2) * self.own).sum(2).flatten(1) + acted @ self._drive()
        if not turning:
            places: Tensor = present + shift
            return places
        angles = rested(angles.unsqueeze(2), self.least_turns).squeeze(2)
        rotation = torch.stack([angles.cos(), angles.sin()], dim=2).unsqueeze(2)  # [N, turning, 1, 2]
        headings = present[:, 2 * sprites :].view(rows, turning, 2, 2)
        return torch.cat([present[:, : 2 * sprites] + shift, (rotation @ headings).flatten(1)], dim=1)

    def _square_reach(self) -> Tensor:
        """How far the filter of the actions moves each sprite, squared, [sprites]."""
        square: Tensor = self.driven.unflatten(1, (-1, 2)).square().sum((0, 2))
        return square

    def _drive(self) -> Tensor:
        """The filter of the actions, [h * A, 2 * sprites], without what it would do to sprites that are not driven."""
        square = self._square_reach() + TINY
        share = square * (1 + LEAST_DRIVE**2) / (square + LEAST_DRIVE**2 * square.max())
        drive: Tensor = self.driven * share.repeat_interleave(2)
        return drive

    def _into(self, turn: Tensor, sprite: int) -> Tensor:
        """The matrix that a row vector is multiplied by to enter a sprite's frame, [N, 4], from that of its heading."""
        symmetry = self.config.sprites[sprite].symmetry
        if symmetry == 1:
            return turn
        cos, sin = axis_of(turn[:, ::2], symmetry).unbind(1)
        return torch.stack([cos, -sin, sin, cos], dim=1)


def rested(motion: Tensor, rest: Tensor | float) -> Tensor:
    """A dead band that is smooth: motions m [N, K, P] -> m |m|^2 / (|m|^2 + rest^2), with a `rest` for all or each K.

    Motions far above `rest` stay as they are, far below they vanish with the third power.
    """
    square = motion.square().sum(2, keepdim=True)
    return motion * (square / (square + rest**2))


def _waves(features: int) -> nn.Linear:
    waves = nn.Linear(features, WAVES)
    nn.init.normal_(waves.weight, std=8.0 / (features / 2) ** 0.5)
    nn.init.uniform_(waves.bias, -torch.pi, torch.pi)
    return waves


class _Window:
    """Columns of the matrix from a flat window (h states of D, h actions) to what is linear in it."""

    def __init__(self, config: SpritesConfig) -> None:
        self.config = config
        self.sizes: list[int] = []
        self._columns: list[Tensor] = []

    def seen_from(self, sprite: int) -> _Window:
        """What the frame of a sprite needs, in two or three parts.

        Vectors, to be turned into the frame: the other sprites' places from here (from the picture's centre, of one
        sprite), all displacements, the actions by pairs, the other headings. Plain numbers: its own place and heading,
        headings of more than one symmetry, and an odd number of actions. For a turning sprite ((c, -s), (s, c)) of its
        heading.
        """
        config, here = self.config, self.config.place(sprite)
        places = [config.place(k) for k in range(len(config.sprites)) if k != sprite]
        for place in places:
            self._vector({place: 1 / LENGTH, here: -1 / LENGTH})
        if not places:
            self._vector({here: 1 / LENGTH})
        self.displacements()
        if config.action_dim % 2 == 0:
            self.actions()
        others = [k for k in config.turning if k != sprite]
        for k in others:
            if config.sprites[k].symmetry == 1:
                self._vector({config.heading(k): 1 / config.heading_length(k)})
        self._part()
        self._vector({here: 1 / LENGTH})
        for k in others:
            if config.sprites[k].symmetry > 1:  # their vectors turn several times as fast as the frame
                self._vector({config.heading(k): 1 / config.heading_length(k)})
        if config.action_dim % 2:
            self.actions()
        if sprite not in config.turning:
            return self._part()
        heading, scale = config.heading(sprite), 1 / config.heading_length(sprite)
        self._vector({heading: scale})
        self._part()
        return self._matrix(heading, scale, -1)._part()

    def displacements(self) -> _Window:
        """Of all sprites, from each frame of the window to the next."""
        size = self.config.state_size
        for k in range(len(self.config.sprites)):
            for t in range(self.config.history - 1):
                place = t * size + self.config.place(k)
                self._vector({place + size: 1.0, place: -1.0}, present=False)
        return self

    def actions(self) -> _Window:
        """All actions of the window."""
        first = self.config.history * self.config.state_size
        for number in range(self.config.history * self.config.action_dim):
            self._column({first + number: 1 / self.config.action_scale})
        return self

    def present(self) -> _Window:
        """The present places, and ((c, s), (-s, c)) of every heading."""
        for k in range(len(self.config.sprites)):
            self._vector({self.config.place(k): 1.0})
        for k in self.config.turning:
            self._matrix(self.config.heading(k), 1.0, 1)
        return self

    def matrix(self) -> Tensor:
        return torch.stack(self._columns, dim=1)

    def _vector(self, entries: dict[int, float], present: bool = True) -> None:
        """Two columns, of x and y, from the index of each x; in the present state, unless the index is the window's."""
        for axis in (0, 1):
            self._column({index + axis: value for index, value in entries.items()}, present)

    def _matrix(self, heading: int, scale: float, sign: int) -> _Window:
        for index, value in ((heading, scale), (heading + 1, sign * scale), (heading + 1, -sign * scale)):
            self._column({index: value}, present=True)
        self._column({heading: scale}, present=True)
        return self

    def _column(self, entries: dict[int, float], present: bool = False) -> None:
        shift = (self.config.history - 1) * self.config.state_size if present else 0
        column = torch.zeros(self.config.history * (self.config.state_size + self.config.action_dim))
        for index, value in entries.items():
            column[shift + index] = value
        self._columns.append(column)

    def _part(self) -> _Window:
        """End a part, and keep how many columns it has."""
        self.sizes.append(len(self._columns) - sum(self.sizes))
        return self
