"""Observations as they come from environments, checked and brought to one form.

They come single or batched, as arrays or in dictionaries, images with channels last or (as stable-baselines3's
`VecTransposeImage` leaves them) first. They leave as arrays [B, ...]: images uint8 [B, size, size, 3], vectors
[B, features].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_agent.core.capabilities import PROPRIO_KEYS
from grasp_agent.core.checks import shown

Array = NDArray[Any]
AnyObservation = Array | Mapping[str, Array]

IMAGE_KEYS = ("pixels", "image", "observation")
VECTOR_KEYS = ("observation", "state")
GOAL_KEYS = ("goal", "desired_goal")
ACHIEVED_KEY = "achieved_goal"
"""Where goal environments show the part of the observation that goals are about."""
_ADVICE = "; this world model sees images: make the environment with obs_type='pixels'"


@dataclass(frozen=True)
class ObservationReader:
    """Checks observations and goals for one kind of input.

    Attributes:
        image_size: side of the square images that are expected; None expects vectors.
        needs_goal: whether an observation without a goal is an error; else it is its own goal.
        proprio_dim: numbers of proprioception that are expected beside images. Both then travel as one structured array
            [B] with the fields "pixels" and "proprio".
    """

    image_size: int | None
    needs_goal: bool = True
    proprio_dim: int = 0

    def read(self, observation: AnyObservation, given_goal: Array | None) -> tuple[Array, Array, bool]:
        """Check an observation and find its goal.

        Args:
            observation: an array, or a dictionary with one of `IMAGE_KEYS` and perhaps of `PROPRIO_KEYS`, or with
                vectors as `vector_in` reads them, and perhaps `GOAL_KEYS`.
            given_goal: a goal [1 or B, ...] that `read_goal` returned; it takes precedence.

        Returns:
            Inputs [B, ...], goals [B, ...], and whether the observation came with a batch dimension.

        Raises:
            TypeError: not numbers.
            ValueError: wrong shape, dtype, size or keys, NaN or infinity, or no goal.
        """
        goal_shown: Any = None
        if not isinstance(observation, Mapping):
            inputs, batched = self.read_array("observation", observation)
        elif self.image_size is None:
            vector, goal_shown = vector_in(observation)
            inputs, batched = self.read_array("observation", vector)
        else:
            name = next((key for key in IMAGE_KEYS if key in observation), None)
            if name is None:
                raise ValueError(
                    f"observation: expected a dictionary with one of the keys {', '.join(IMAGE_KEYS)}, got"
                    f" {', '.join(map(str, observation)) or 'an empty one'}{_ADVICE}"
                )
            inputs, batched = self.read_array(f"observation[{name!r}]", observation[name])
            goal_shown = observation.get(_goal_key(observation))
        if self.proprio_dim:
            inputs = self._with_proprio("observation", inputs, observation)
        if not self.needs_goal:
            return inputs, np.zeros_like(inputs), batched  # the same all the time: a change would mean another goal
        goal = given_goal
        if goal is None and goal_shown is not None:
            goal = self.read_goal(f"observation[{_goal_key(observation)!r}]", goal_shown)
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

    def read_goal(self, name: str, value: Any) -> Array:
        """Check a goal, called `name` -> [1 or B, ...].

        It may be a picture alone where the model reads proprioception too: zeros stand for what is not known, and must
        have no weight in the distance.

        Raises:
            TypeError, ValueError: as `read`.
        """
        if not self.proprio_dim:
            return self.read_array(name, value)[0]
        if not isinstance(value, Mapping):
            pictures = self.read_array(name, value)[0]
            return self._joined(pictures, np.zeros((len(pictures), self.proprio_dim), np.float32))
        key = next((key for key in IMAGE_KEYS if key in value), None)
        if key is None:
            raise ValueError(f"{name}: expected a picture, or a dictionary with one under {', '.join(IMAGE_KEYS)}")
        return self._with_proprio(name, self.read_array(f"{name}[{key!r}]", value[key])[0], value)

    def _with_proprio(self, name: str, pictures: Array, observation: Any) -> Array:
        """Pictures [B, ...] and the proprioception beside them as one array [B]."""
        key = proprio_key(observation)
        if key is None:
            raise ValueError(
                f"{name}: expected {self.proprio_dim} numbers of proprioception under"
                f" {' or '.join(map(repr, PROPRIO_KEYS))} beside the picture, which this world model reads, got none"
            )
        numbers = _as_array(f"{name}[{key!r}]", observation[key])
        if numbers.dtype.kind not in "fiub" or numbers.size != len(pictures) * self.proprio_dim:
            raise ValueError(
                f"{name}[{key!r}]: expected {self.proprio_dim} numbers for each of {len(pictures)} pictures, got shape"
                f" {list(numbers.shape)} of {numbers.dtype}"
            )
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}[{key!r}]: expected finite numbers, got NaN or infinity")
        return self._joined(pictures, numbers.reshape(len(pictures), -1))

    def _joined(self, pictures: Array, proprio: Array) -> Array:
        fields = [("pixels", np.uint8, pictures.shape[1:]), ("proprio", np.float32, proprio.shape[1:])]
        joined = np.empty(len(pictures), fields)
        joined["pixels"], joined["proprio"] = pictures, proprio
        return joined

    def read_array(self, name: str, value: Any) -> tuple[Array, bool]:
        """Check one array of an observation, called `name`; return it as [B, ...] and whether it came batched.

        Raises:
            TypeError, ValueError: as `read`.
        """
        array = _as_array(name, value)
        if self.image_size is not None:
            return _read_images(name, array, self.image_size)
        _check_numbers(name, array)
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(
                f"{name}: expected shape [features] or [batch, features] (this world model takes vectors),"
                f" got {list(array.shape)}"
            )
        if array.dtype != np.float32:  # torch does not read every dtype and byte order that numpy writes
            with np.errstate(over="ignore"):
                array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
        return array.reshape(-1, array.shape[-1]), array.ndim == 2


def proprio_key(observation: Any) -> str | None:
    """Where a dictionary, of observations or of their spaces, holds numbers beside a picture; None if it does not."""
    return next((key for key in PROPRIO_KEYS if isinstance(observation, Mapping) and key in observation), None)


def vector_in(observation: Mapping[str, Any]) -> tuple[Array, Array | None]:
    """The numbers of a dictionary of vectors [..., D], and its goal of the same form, if it shows one.

    Numbers are found under "observation" or "state", else they are all entries side by side, in the order of their
    names. The goal of a goal environment is often about other numbers than "observation" holds. Then those of
    "achieved_goal" are put behind the observation, and the goal is zeros with "desired_goal" behind them: give the
    first numbers no weight in the distance.

    Raises:
        ValueError: there are no vectors.
        TypeError: they are not of numbers.
    """
    goal_key = _goal_key(observation)
    there = observation.get(goal_key)
    goal = None if there is None else _as_array(f"observation[{goal_key!r}]", there)
    name = next((key for key in VECTOR_KEYS if key in observation), None)
    if name is not None:
        vector = _as_array(f"observation[{name!r}]", observation[name])
        if goal is not None and ACHIEVED_KEY in observation and goal.shape != vector.shape:
            achieved = _as_array(f"observation[{ACHIEVED_KEY!r}]", observation[ACHIEVED_KEY])
            nothing = np.zeros(vector.shape, dtype=goal.dtype)
            return _side_by_side({name: vector, ACHIEVED_KEY: achieved}), _side_by_side({name: nothing, goal_key: goal})
        return vector, goal
    others = sorted((key for key in observation if key not in (*GOAL_KEYS, ACHIEVED_KEY)), key=str)
    return _side_by_side({key: _as_array(f"observation[{key!r}]", observation[key]) for key in others}), goal


def _side_by_side(parts: Mapping[Any, Array]) -> Array:
    """Vectors [..., D_i] as one [..., sum of D_i]; a ValueError if they are none, or do not fit together."""
    arrays = list(parts.values())
    if not arrays or any(a.ndim not in (1, 2) or a.shape[:-1] != arrays[0].shape[:-1] for a in arrays):
        shapes = ", ".join(f"{key} {list(part.shape)}" for key, part in parts.items())
        raise ValueError(
            f"observation: expected a dictionary of vectors (this world model takes vectors), got"
            f" {shapes or 'an empty one'}"
        )
    for key, part in parts.items():
        _check_numbers(f"observation[{key!r}]", part)
    return np.concatenate(arrays, axis=-1)


def _check_numbers(name: str, array: Array) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")


def _goal_key(observation: Any) -> str:
    """Where a dictionary shows its goal, if it does."""
    return next((key for key in GOAL_KEYS if key in observation), "")


def goal_part(space: Mapping[str, Any]) -> int:
    """How many of the last numbers of `vector_in` goals are about: of spaces by their keys; 0 means about all."""
    name = next((key for key in VECTOR_KEYS if key in space), None)
    goal = space.get(_goal_key(space))
    if name is None or goal is None or ACHIEVED_KEY not in space or goal.shape == space[name].shape:
        return 0
    return int(np.prod(space[ACHIEVED_KEY].shape))


def _as_array(name: str, value: Any) -> Array:
    """Return `value` as an array, unless it is something else that users hand over."""
    if isinstance(value, Mapping):
        keys = ", ".join(map(str, value)) or "none"
        raise TypeError(
            f"{name}: expected an array, got a dictionary with the keys {keys}; try the array under one key"
        )
    if isinstance(value, str | bytes | PathLike):
        raise TypeError(
            f"{name}: expected an array, got {shown(value)}; if that is a file, load it first, for example with"
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
    if images.size == 0:
        raise ValueError(f"{name}: expected at least one image, got an empty batch of shape {array.shape}")
    return images.reshape(-1, *channels_last), array.ndim == 4


def read_flags(name: str, value: Any) -> NDArray[np.bool_]:
    """Flags [B]: booleans, or zeros and ones.

    Raises:
        TypeError, ValueError: something else.
    """
    array = _as_array(name, value).reshape(-1)
    if array.dtype.kind not in "fiub" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected True or False per row, got {shown(value)}")
    return array.astype(bool)
