"""A data set of another program, and how it becomes a data folder.

A source tells how long its episodes are before it reads them. So which episodes a shard holds is known from the start,
and a conversion that was stopped goes on with the shards that are missing.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.observations import ACHIEVED_KEY, GOAL_KEYS, IMAGE_KEYS
from grasp_agent.data.dataset import META_NAME, described, read_meta
from grasp_agent.data.shards import shard_name, write_shard_files
from grasp_agent.files.atomic import check_room, remove_unfinished, write_json
from grasp_agent.files.lock import locked
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.rendered import square

Arrays = dict[str, NDArray[Any]]
OnPart = Callable[[int, int], None]
"""Told (parts done, parts in all)."""


class Source(ABC):
    """Episodes of another program.

    Attributes:
        name: what error messages call it.
        settings: JSON-serialisable; where the data are from, with `env_ids` and `env_kwargs` as `CollectSettings` has
            them. A conversion goes on only with the same.
        lengths: frames of each episode.
        code: how actions are recorded.
        goal_size: of vectors, how many of the last numbers goals are about; 0 means all.
        side: height and width of the recorded pictures; None if observations are vectors.
    """

    name: str
    settings: dict[str, Any]
    lengths: Sequence[int]
    code: ActionCode
    goal_size: int
    side: int | None

    @abstractmethod
    def episode(self, number: int) -> Arrays:
        """The arrays of an episode of F frames, by name and of the form that `data.dataset` tells, without lengths.

        Raises:
            ValueError: it holds something else than the source said.
        """

    def close(self) -> None:  # noqa: B027
        """End what was begun for reading."""


def write_folder(source: Source, out: Path, shard_steps: int, on_part: OnPart | None = None) -> None:
    """Write a source's episodes to the data folder `out`, going on from the shards that are there.

    Args:
        source: what is written.
        out: data folder.
        shard_steps: steps in one shard, at least; its last episode is whole.
        on_part: called with (shards done, shards in all).

    Raises:
        ValueError: `out` holds other data, or an episode cannot be read.
        RuntimeError: another run writes to `out`.
    """
    settings = json.loads(json.dumps({**source.settings, "shard_steps": shard_steps}))
    meta = described(settings, goal_size=source.goal_size, centred_actions=source.code.centred)
    if (out / META_NAME).exists():
        there = read_meta(out)
        old = there["settings"]
        differing = sorted(key for key in old.keys() | settings.keys() if old.get(key) != settings.get(key))
        differing += [key for key in ("goal_size", "centred_actions") if there.get(key) != meta.get(key)]
        if differing:
            raise ValueError(f"{out}: holds other data (different: {', '.join(differing)}); choose a new folder")
    shards = episodes_by_shard(source.lengths, shard_steps)
    missing = [number for number in range(len(shards)) if not (out / shard_name(number)).is_dir()]
    if missing:
        _checked(source, 0)  # what is wrong with all episodes shows before anything is written
    frames = sum(source.lengths[episode] for number in missing for episode in shards[number])
    check_room(out, frames * 3 * (source.side or 0) ** 2)
    with locked(out):
        remove_unfinished(out)
        write_json(out / META_NAME, meta)
        try:
            for done, number in enumerate([*missing, None], len(shards) - len(missing)):
                if on_part:
                    on_part(done, len(shards))
                if number is not None:
                    _write_shard(source, shards[number], out / shard_name(number))
        finally:
            remove_unfinished(out)


def episodes_by_shard(lengths: Sequence[int], shard_steps: int) -> list[range]:
    """Numbers of the episodes in each shard: in order, and as few as have `shard_steps` steps."""
    shards, first, steps = [], 0, 0
    for number, length in enumerate(lengths):
        steps += int(length) - 1
        if steps >= shard_steps or number == len(lengths) - 1:
            shards.append(range(first, number + 1))
            first, steps = number + 1, 0
    return shards


def _write_shard(source: Source, episodes: range, shard: Path) -> None:
    parts = [_checked(source, number) for number in episodes]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["lengths"] = np.array([source.lengths[number] for number in episodes], dtype=np.int64)
    write_shard_files(shard, arrays)


def _checked(source: Source, number: int) -> Arrays:
    """An episode, of the length that the source said and of finite numbers."""
    arrays = source.episode(number)
    for name, array in arrays.items():
        if len(array) != source.lengths[number]:
            raise ValueError(
                f"{source.name}: expected {source.lengths[number]} {name} in episode {number}, got {len(array)}; is the"
                " data set complete?"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{source.name}: expected finite {name}, got NaN or infinity in episode {number}")
    return arrays


def with_end(steps: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """What is told of the T steps of an episode as told of its T + 1 frames: zeros belong to the last."""
    return np.concatenate([steps, np.zeros((1, *steps.shape[1:]))]).astype(dtype)


# ---- environments and actions


def environment_settings(env_id: str | None, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What `dataset.json` says of the environment that data are from; nothing if it is not known."""
    known = env_id is not None
    return {"env_ids": [env_id] if known else [], "env_kwargs": [list(pair) for pair in env_kwargs.items()] * known}


def action_space_of(env_id: str, env_kwargs: Mapping[str, Any]) -> spaces.Space[Any]:
    """The action space of an environment.

    Raises:
        ValueError: it cannot be made.
    """
    with closing(make_env(env_id, **env_kwargs)) as env:
        return env.action_space


def bounded(shape: tuple[int, ...], bounds: Sequence[float]) -> spaces.Box:
    """Actions of a shape whose bounds were told by hand.

    Args:
        shape: of an action.
        bounds: the least and the largest value of all numbers, or of each: least, largest, least, largest, ...

    Raises:
        ValueError: another count of numbers, or a least value that is not below the largest.
    """
    size = int(np.prod(shape))
    if len(bounds) not in (2, 2 * size):
        raise ValueError(
            f"action bounds: expected 2 numbers, or 2 for each of the {size} numbers of an action, got {len(bounds)}"
        )
    pairs = np.array(bounds, dtype=np.float32).reshape(-1, 2)
    low, high = (np.broadcast_to(column, size).reshape(shape) for column in pairs.T)
    if not (np.isfinite(pairs).all() and (low < high).all()):
        raise ValueError(
            "action bounds: expected finite numbers, each least value below its largest, got"
            f" {' '.join(map(str, bounds))}"
        )
    return spaces.Box(low.copy(), high.copy(), dtype=np.float32)


# ---- pictures


def is_picture(shape: Sequence[int], dtype: Any) -> bool:
    """Whether arrays of this form are pictures: uint8, with 3 channels or 1, channels last or first, or with none."""
    shape = tuple(shape)
    if np.dtype(dtype) != np.uint8 or len(shape) not in (2, 3):
        return False
    return len(shape) == 2 or shape[-1] in (1, 3) or shape[0] in (1, 3)


def choose_picture(name: str, pictures: Sequence[str], wanted: str | None, preferred: str = "") -> str | None:
    """The key of the pictures to record; None if there are none.

    Args:
        name: what error messages call the data set.
        pictures: keys of all pictures that observations hold.
        wanted: the key that was asked for.
        preferred: the key that is taken first where none was asked for.

    Raises:
        ValueError: no picture under the key that was asked for, or several and nothing tells which.
    """
    if wanted is not None and wanted not in pictures:
        raise ValueError(
            f"{name}: expected a picture under {wanted!r}, got pictures under {', '.join(pictures) or 'no key'}; try"
            f" {'--picture-key ' + pictures[0] if pictures else 'it without --picture-key'}"
        )
    usual = (preferred, *IMAGE_KEYS)
    chosen = wanted or next((key for key in usual if key in pictures), None)
    others = [key for key in pictures if key not in (*GOAL_KEYS, ACHIEVED_KEY)]
    if chosen is None and len(others) > 1:
        raise ValueError(
            f"{name}: expected one picture in an observation, got {', '.join(others)}; choose one with --picture-key,"
            f" as in --picture-key {others[0]}"
        )
    return chosen or (others[0] if others else None)


def frame_of(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture as `is_picture` has it -> [side, side, 3]; between black bars where it is not square."""
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.shape[-1] not in (1, 3):
        picture = np.moveaxis(picture, 0, -1)
    picture = np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    return picture if picture.shape == (side, side, 3) else square(picture, side)
