"""What crosses the border between environment and agent: observations come in, actions go out.

Observations come single or batched, as arrays or in dictionaries, images with channels last or (as
stable-baselines3's `VecTransposeImage` leaves them) first. They are checked and brought to one form, arrays
[B, ...]: images uint8 [B, size, size, 3], vectors [B, features]. Actions leave in the action space's shape
and dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]
AnyObservation = Array | Mapping[str, Array]

IMAGE_KEYS = ("pixels", "image", "observation")
VECTOR_KEYS = ("observation", "state")
GOAL_KEYS = ("goal", "desired_goal")
_ADVICE = "; this world model sees images: make the environment with obs_type='pixels'"


@dataclass(frozen=True)
class ObservationReader:
    """Checks observations and goals for one kind of input.

    Attributes:
        image_size: side of the square images that are expected; None expects vectors.
    """

    image_size: int | None

    def read(self, observation: AnyObservation, given_goal: Array | None) -> tuple[Array, Array, bool]:
        """Check an observation and find its goal.

        Args:
            observation: an array, or a dictionary with one of `IMAGE_KEYS` or `VECTOR_KEYS`, and perhaps
                `GOAL_KEYS`.
            given_goal: a goal [1 or B, ...] that `read_array` returned; it takes precedence.

        Returns:
            Inputs [B, ...], goals [B, ...], and whether the observation came with a batch dimension.

        Raises:
            TypeError: not numbers.
            ValueError: wrong shape, dtype, size or keys, NaN or infinity, or no goal.
        """
        goal = given_goal
        if isinstance(observation, Mapping):
            names = VECTOR_KEYS if self.image_size is None else IMAGE_KEYS
            name = next((key for key in names if key in observation), None)
            if name is None:
                raise ValueError(
                    f"observation: expected a dictionary with one of the keys {', '.join(names)}, got"
                    f" {', '.join(map(str, observation)) or 'an empty one'}"
                    f"{'' if self.image_size is None else _ADVICE}"
                )
            inputs, batched = self.read_array(f"observation[{name!r}]", observation[name])
            goal_name = next((key for key in GOAL_KEYS if key in observation), None)
            if goal is None and goal_name is not None:
                goal = self.read_array(f"observation[{goal_name!r}]", observation[goal_name])[0]
        else:
            inputs, batched = self.read_array("observation", observation)
        if goal is None:
            raise ValueError(
                "goal: expected one from agent.reset(goal=...) or in the observation under"
                f" {' or '.join(map(repr, GOAL_KEYS))}, got none"
            )
        if len(goal) not in (1, len(inputs)):
            raise ValueError(f"goal: expected one or {len(inputs)} (one per observation), got {len(goal)}")
        if goal.shape[1:] != inputs.shape[1:]:
            raise ValueError(
                f"goal: expected the observation's form, shape {list(inputs.shape[1:])}, got {list(goal.shape[1:])}"
            )
        return inputs, np.broadcast_to(goal, (len(inputs), *goal.shape[1:])), batched

    def read_array(self, name: str, value: Any) -> tuple[Array, bool]:
        """Check one observation or goal, called `name`; return it as [B, ...] and whether it came batched.

        Raises:
            TypeError, ValueError: as `read`.
        """
        array = _as_array(name, value)
        if self.image_size is not None:
            return _read_images(name, array, self.image_size)
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            raise TypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(
                f"{name}: expected shape [features] or [batch, features] (this world model takes vectors),"
                f" got {list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
        return array.reshape(-1, array.shape[-1]), array.ndim == 2


def _as_array(name: str, value: Any) -> Array:
    """Return `value` as an array, unless it is something else that users hand over."""
    if isinstance(value, Mapping):
        keys = ", ".join(map(str, value)) or "none"
        raise TypeError(
            f"{name}: expected an array, got a dictionary with the keys {keys}; try the array under one key"
        )
    if isinstance(value, str | bytes | PathLike):
        raise TypeError(
            f"{name}: expected an array, got {value!r}; if that is a file, load it first, for example with"
            " np.asarray(PIL.Image.open(path))"
        )
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors elsewhere or with gradients
        raise TypeError(
            f"{name}: expected an array of numbers, got a {type(value).__name__} that numpy cannot read; try"
            " .detach().cpu().numpy() on a tensor"
        ) from error


def _read_images(name: str, array: Array, size: int) -> tuple[Array, bool]:
    """Return images as uint8 [B, size, size, 3] and whether they came with a batch dimension."""
    if array.dtype != np.uint8:
        broken = np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
        raise ValueError(
            f"{name}: expected uint8 images (0 to 255), got dtype {array.dtype}"
            f"{' holding NaN or infinity' * broken}{_ADVICE * (array.ndim < 3)}"
        )
    channels_last, channels_first = (size, size, 3), (3, size, size)
    if array.ndim in (3, 4) and array.shape[-3:] == channels_last:
        images = array
    elif array.ndim in (3, 4) and array.shape[-3:] == channels_first:
        images = np.moveaxis(array, -3, -1)
    else:
        raise ValueError(
            f"{name}: expected images of shape {channels_last}, with or without a batch dimension, got"
            f" {array.shape}; make the environment with resolution={size}"
        )
    return images.reshape(-1, *channels_last), array.ndim == 4


class ActionWriter:
    """Turns flat actions into those of an action space.

    Args:
        space: a bounded `Box` of any shape.
        action_dim: numbers in one action of the world model.

    Attributes:
        space: the action space.
        low: its lower bounds, [action_dim].
        high: its upper bounds, [action_dim].

    Raises:
        TypeError: the space is not a `Box`.
        ValueError: it has infinite bounds, or another size than the model's actions.
    """

    def __init__(self, space: spaces.Space[Any], action_dim: int) -> None:
        if not isinstance(space, spaces.Box):
            raise TypeError(
                f"action_space: expected a gymnasium.spaces.Box (continuous actions), got {type(space).__name__}"
            )
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(
                f"action_space: expected finite bounds, got {space}; wrap the environment in"
                " gymnasium.wrappers.RescaleAction"
            )
        size = int(np.prod(space.shape))
        if size != action_dim:
            batched = space.shape != () and int(np.prod(space.shape[1:])) == action_dim
            raise ValueError(
                f"action_space: expected {action_dim} numbers per action as in the world model, got {size} in {space}"
                f"{'; for a vector environment pass its single_action_space' * batched}"
            )
        self.space = space
        self.low: Array = space.low.reshape(-1)
        self.high: Array = space.high.reshape(-1)

    def write(self, actions: Array) -> Array:
        """Cast actions [B, action_dim] to the space's dtype and shape [B, ...], inside its bounds."""
        values = actions.reshape(-1, *self.space.shape)
        if np.issubdtype(self.space.dtype, np.integer):
            values = np.rint(values)
        return np.clip(values, self.space.low, self.space.high).astype(self.space.dtype)
