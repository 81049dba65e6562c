"""Actions as plans hold them, flat rows of numbers, and as environments take them.

Box                      its numbers, one after the other; or centred: -1 for the least, 1 for the largest value
Discrete(n)              n numbers, the choice is the largest of them; executed: 1 for the choice, 0 for the others
MultiDiscrete, MultiBinary    the same for each of their choices, side by side
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from gymnasium import spaces

from grasp_agent.agent.observations import Array
from grasp_agent.core.capabilities import centred_actions_of
from grasp_agent.core.checks import shown
from grasp_agent.core.types import WorldModel


class ActionCode:
    """Translates between the actions of a space and flat rows of numbers.

    Args:
        space: a bounded `Box` of any shape, or `Discrete`, `MultiDiscrete` or `MultiBinary`.
        centred: whether a `Box`'s numbers are told from the middle of its bounds, in half-ranges. So plans can begin
            at zero where no action of the space is zero, or where zero is at its border.

    Attributes:
        space: the action space.
        centred: whether the numbers are centred; choices never are.
        choices: how many ways each of an action's choices has; empty for a `Box`.
        low: least value of each number, [A].
        high: largest value of each number, [A].

    Raises:
        TypeError: the space is another one.
        ValueError: it has infinite bounds.
    """

    def __init__(self, space: spaces.Space[Any], centred: bool = False) -> None:
        self.space = space
        self.choices = _choices(space)
        self.centred = centred and not self.choices
        if not self.choices:
            if not isinstance(space, spaces.Box):
                raise TypeError(
                    "action_space: expected a gymnasium.spaces.Box (continuous actions), Discrete, MultiDiscrete or"
                    f" MultiBinary, got {type(space).__name__}"
                )
            with np.errstate(over="ignore", invalid="ignore"):
                bounded = np.isfinite(space.high.astype(np.float32) - space.low.astype(np.float32)).all()
            if not bounded:
                raise ValueError(
                    f"action_space: expected finite bounds, got {space}; wrap the environment in"
                    " gymnasium.wrappers.RescaleAction"
                )
            self.low: Array = space.low.reshape(-1)
            self.high: Array = space.high.reshape(-1)
            self._middle, self._half = np.zeros(self.size), np.ones(self.size)
            if centred:
                least, most = self.low.astype(np.float64), self.high.astype(np.float64)
                self._middle, self._half = (least + most) / 2, np.where(most > least, (most - least) / 2, 1.0)
                self.low, self.high = -np.ones(self.size, np.float32), np.ones(self.size, np.float32)
        else:
            self.low, self.high = np.zeros(sum(self.choices), np.float32), np.ones(sum(self.choices), np.float32)

    @classmethod
    def for_data(cls, space: spaces.Space[Any]) -> Self:
        """How actions are recorded: centred if the bounds of a `Box` are not the same in both directions."""
        plain = cls(space)
        lopsided = not plain.choices and not np.allclose(plain.low, -plain.high)
        return cls(space, centred=True) if lopsided else plain

    @classmethod
    def for_model(cls, space: spaces.Space[Any], model: WorldModel) -> Self:
        """How a model's actions are told: as its data told them."""
        return cls(space, centred_actions_of(model))

    @property
    def size(self) -> int:
        """A: numbers in a flat action."""
        return len(self.low)

    def check_size(self, action_dim: int) -> None:
        """Raise a ValueError unless a world model's actions have as many numbers."""
        if self.size == action_dim:
            return
        shape = self.space.shape or ()
        batched = not self.choices and shape != () and int(np.prod(shape[1:])) == action_dim
        raise ValueError(
            f"action_space: expected {action_dim} numbers per action as in the world model, got {self.size} in"
            f" {self.space}{'; for a vector environment pass its single_action_space' * batched}"
        )

    def write(self, flat: Array) -> Array:
        """Flat rows [B, A] as B actions of the space's shape and dtype, inside its bounds."""
        if self.choices:
            chosen = np.stack([part.argmax(1) for part in self._parts(flat)], axis=1)
            start = getattr(self.space, "start", 0)
            decided: Array = (chosen.reshape(-1, *self.space.shape or ()) + start).astype(self.space.dtype)
            return decided
        assert isinstance(self.space, spaces.Box)
        values = (self._middle + self._half * flat).reshape(-1, *self.space.shape)
        if np.issubdtype(self.space.dtype, np.integer):
            values = np.rint(values)
        written: Array = np.clip(values, self.space.low, self.space.high).astype(self.space.dtype)
        return written

    def read(self, actions: Array) -> Array:
        """B actions of the space as flat rows, float32 [B, A].

        Raises:
            ValueError: there are no such choices.
        """
        actions = np.asarray(actions)
        if not self.choices:
            return ((actions.reshape(-1, self.size) - self._middle) / self._half).astype(np.float32)
        chosen = (actions - getattr(self.space, "start", 0)).reshape(-1, len(self.choices)).astype(np.int64)
        if (chosen < 0).any() or (chosen >= self.choices).any():
            raise ValueError(f"actions: expected choices of {self.space}, got {shown(actions.tolist())}")
        rows = [np.eye(ways, dtype=np.float32)[chosen[:, i]] for i, ways in enumerate(self.choices)]
        return np.concatenate(rows, axis=1)

    def _parts(self, flat: Array) -> list[Array]:
        """The numbers of each choice: [B, A] -> [B, ways] each."""
        return np.split(flat, np.cumsum(self.choices)[:-1], axis=1)


def _choices(space: spaces.Space[Any]) -> tuple[int, ...]:
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(n) for n in space.nvec.reshape(-1))
    if isinstance(space, spaces.MultiBinary):
        return (2,) * int(np.prod(space.shape or ()))
    return ()
