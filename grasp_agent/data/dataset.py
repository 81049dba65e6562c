"""Episodes on disk, memory-mapped: a folder of shards, each written whole or not at all.

DATA/dataset.json                     what the data is and how it was made
DATA/shard-00000/frames.npy           uint8   [frames, height, width, 3]; pictures, or in their place
                 vectors.npy          float32 [frames, D]
                 actions.npy          float32 [frames, action_dim]; the last of an episode is unused (zero); a choice
                                      is a 1 among zeros; with "centred_actions" in dataset.json, -1 is the least
                                      and 1 the largest value of the action space
                 rewards.npy          float32 [frames]; of the step from a frame to the next; the last is zero
                 terminated.npy       bool    [frames]; whether the episode ended there, not by a time limit
                 proprio.npy          float32 [frames, Q]; numbers that the observation showed beside the picture
                 states.npy           float64 [frames, state_dim]; simulator state, only for supervision and probes
                 lengths.npy          int64   [episodes], frames of each episode, in order
                 sha256.json          the SHA-256 of each of these files

Older data hold neither rewards nor terminated nor digests. A frame is what was observed at one time, a picture or a
vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_agent.data.shards import OPTIONAL, read_shard
from grasp_agent.files.digest import json_sha256, sha256
from grasp_agent.files.reading import read_json

META_NAME = "dataset.json"
FORMAT = "grasp-agent episodes"


class EpisodeDataset:
    """Read-only view of collected episodes, of one data folder or of several together.

    Frames are numbered through all shards; pictures stay on disk, everything else is in memory.

    Attributes:
        folder: the first data folder.
        settings: how each folder was collected; with `centred_actions` where actions are told so.
        actions: [F, action_dim]; `actions[i]` leads from frame i to i + 1 inside an episode.
        vectors: [F, D] observations that are vectors; None if they are pictures.
        rewards: [F] of the steps from frame i to i + 1 inside an episode, or None.
        terminated: [F] whether an episode ended in a frame, other than by a time limit, or None.
        proprio: [F, Q] numbers that were observed beside the pictures, environment units, or None.
        states: [F, state_dim] simulator states, or None.
        starts: first frame of each episode, [E].
        lengths: frames of each episode, [E].
        goal_size: of vectors, how many of the last numbers goals are about; 0 means all.
        shows_goals: whether the environment shows goals; older data do not tell, and count as if it did.
        source: number of the folder each episode is from, [E].
        environment: number of the environment each episode is from, [E]; folders may share environments.

    Raises:
        FileNotFoundError: not a data folder.
        ValueError: none given, of another format, without a finished shard, with one that is damaged or was changed
            since it was written, or of frames or actions that do not fit the first folder's.
    """

    def __init__(self, *folders: str | Path) -> None:
        if not folders:
            raise ValueError("data: expected at least one data folder, got none")
        self.folder = Path(folders[0])
        self.settings: list[dict[str, Any]] = []
        told = read_meta(self.folder)
        self.goal_size, self.shows_goals = int(told.get("goal_size", 0)), bool(told.get("shows_goals", True))
        shards: list[Path] = []
        of_folder: list[int] = []
        of_environment: list[int] = []
        environments: dict[str, int] = {}
        for number, folder in enumerate(folders):
            meta = read_meta(Path(folder))
            told = {"centred_actions": True} if meta.get("centred_actions") is True else {}
            self.settings.append({**meta["settings"], **told})
            if bool(told) != ("centred_actions" in self.settings[0]):
                raise ValueError(
                    f"{folder}: expected actions told as in {self.folder}, got some from the middle of their bounds and"
                    " others in the environment's numbers; collect them again"
                )
            found = sorted(p for p in Path(folder).glob("shard-*") if p.is_dir())
            if not found:
                raise ValueError(
                    f"{folder}: expected at least one finished shard, got none; try `grasp-agent collect` again"
                )
            shards += found
            of_folder += [number] * len(found)
            taking_turns = self.settings[-1].get("env_ids") or [str(folder)]
            for shard in found:
                name = taking_turns[int(shard.name.rpartition("-")[2]) % len(taking_turns)]
                of_environment.append(environments.setdefault(name, len(environments)))
        with ThreadPoolExecutor() as pool:  # digests are computed on all cores
            arrays = list(pool.map(read_shard, shards))
        self._frames: list[NDArray[Any]] = [
            of["frames"] if "frames" in of else of["vectors"].astype(np.float32, copy=False) for of in arrays
        ]
        self._first = np.cumsum([0] + [len(f) for f in self._frames])
        actions = [of["actions"].astype(np.float32, copy=False) for of in arrays]
        for path, frames, moves in zip(shards, self._frames, actions, strict=True):
            if frames.shape[1:] != self._frames[0].shape[1:] or moves.shape[1:] != actions[0].shape[1:]:
                raise ValueError(
                    f"{path}: expected frames {list(self._frames[0].shape[1:])} and actions"
                    f" {list(actions[0].shape[1:])} as in {shards[0]}, got {list(frames.shape[1:])} and"
                    f" {list(moves.shape[1:])}"
                )
        self.vectors: NDArray[np.float32] | None = None
        if self._frames[0].ndim == 2:
            self.vectors = np.concatenate(self._frames)
        self.actions: NDArray[np.float32] = np.concatenate(actions)
        joined = {name: _joined(name, shards, arrays) for name in OPTIONAL}
        self.rewards: NDArray[np.float32] | None = joined["rewards"]
        self.terminated: NDArray[np.bool_] | None = joined["terminated"]
        self.proprio: NDArray[np.float32] | None = joined["proprio"]
        self.states: NDArray[np.float64] | None = joined["states"]
        lengths = [of["lengths"].astype(np.int64, copy=False) for of in arrays]
        self.lengths: NDArray[np.int64] = np.concatenate(lengths)
        self.source: NDArray[np.int64] = np.repeat(of_folder, [len(n) for n in lengths])
        self.environment: NDArray[np.int64] = np.repeat(of_environment, [len(n) for n in lengths])
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of actions and lengths, by which data are told from others."""
        return sha256(self.actions.tobytes() + self.lengths.tobytes())[:16]

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def image_size(self) -> int:
        """Height and width of the pictures.

        Raises:
            ValueError: the observations are vectors.
        """
        if self.vectors is not None:
            raise ValueError(
                f"{self.folder}: expected pictures, got vectors of {self.vectors.shape[1]} numbers; train with --recipe"
                " vector, or collect with --pixels"
            )
        return int(self._frames[0].shape[1])

    def observations(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Observations by frame number: [n] -> pictures as `frames`, or vectors [n, D]."""
        return self.frames(index) if self.vectors is None else self.vectors[index]

    def frames(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures by number: [n] -> uint8 [n, height, width, 3]."""
        shard = np.searchsorted(self._first, index, side="right") - 1
        out = np.empty((len(index), *self._frames[0].shape[1:]), dtype=np.uint8)
        for s in np.unique(shard):
            here = np.flatnonzero(shard == s)
            order = np.argsort(index[here])  # ascending reads
            out[here[order]] = self._frames[s][index[here[order]] - self._first[s]]
        return out

    def check_fits(self, image_size: int, action_dim: int) -> None:
        """Raise a ValueError unless frames and actions have these sizes, those of a model to be trained."""
        if self.image_size != image_size:
            raise ValueError(
                f"{self.folder}: expected frames of {image_size} px, got {self.image_size}; "
                f"collect with --resolution {image_size}"
            )
        if self.actions.shape[1] != action_dim:
            raise ValueError(f"{self.folder}: expected actions of {action_dim} numbers, got {self.actions.shape[1]}")

    def check_finite(self, name: str, values: NDArray[Any]) -> None:
        """Raise a ValueError unless the numbers of every frame, [F, N], are finite; `name` says what they are."""
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise ValueError(
                f"{self.folder}: expected finite {name}, got NaN or infinity in {bad} of {len(self)} frames; "
                "collect them again"
            )

    def split(self, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episode numbers for training and for validation: of each folder, the last `held_out` share is kept apart."""
        kept = np.zeros(len(self.lengths), bool)
        for number in range(len(self.settings)):
            episodes = np.flatnonzero(self.source == number)
            count = max(1, round(len(episodes) * held_out))
            if count >= len(episodes):
                raise ValueError(
                    f"{self.folder}: expected at least 2 episodes in each folder to keep some for validation,"
                    f" got {len(episodes)}"
                )
            kept[episodes[-count:]] = True
        return np.flatnonzero(~kept), np.flatnonzero(kept)

    def windows(self, episodes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """First frames of all windows of `length` frames that lie inside one of the `episodes`."""
        firsts = [
            np.arange(self.starts[e], self.starts[e] + self.lengths[e] - length + 1)
            for e in episodes
            if self.lengths[e] >= length
        ]
        if not firsts:
            raise ValueError(f"{self.folder}: no episode has the {length} frames asked for; collect longer episodes")
        return np.concatenate(firsts)

    def frame_numbers(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """All frames of the `episodes`."""
        return self.windows(episodes, 1)


def _joined(name: str, shards: Sequence[Path], arrays: Sequence[dict[str, NDArray[Any]]]) -> NDArray[Any] | None:
    """What all shards hold under a name, one after the other; None if all those of a folder lack it."""
    for shard, of, first in zip(shards, arrays, [_first_of(shard.parent, shards) for shard in shards], strict=True):
        there = arrays[first]
        if (name in of) != (name in there) or (name in of and of[name].shape[1:] != there[name].shape[1:]):
            raise ValueError(
                f"{shard / name}.npy: expected an array like that of {shards[first].name}, or none where there is none,"
                f" got another; remove {shard.name} and run `grasp-agent collect` again"
            )
    if not all(name in of and of[name].shape[1:] == arrays[0][name].shape[1:] for of in arrays):
        return None
    return np.concatenate([of[name] for of in arrays])


def _first_of(folder: Path, shards: Sequence[Path]) -> int:
    return next(number for number, shard in enumerate(shards) if shard.parent == folder)


def described(settings: dict[str, Any], *, centred_actions: bool = False, **more: Any) -> dict[str, Any]:
    """The content of dataset.json, with the digest by which `read_meta` notices that it was changed."""
    told = {"centred_actions": True} if centred_actions else {}
    meta = {"format": FORMAT, "settings": settings, **more, **told}
    return {**meta, "sha256": json_sha256(meta)}


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of dataset.json, checked.

    Raises:
        FileNotFoundError, ValueError: as `EpisodeDataset`.
    """
    path = folder / META_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: expected a data folder with {META_NAME}; make one with `grasp-agent collect`"
        )
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("settings"), dict):
        raise ValueError(f"{path}: expected format {FORMAT!r}; collect into a new folder")
    names, goal_size = meta["settings"].get("env_ids", []), meta.get("goal_size", 0)
    told = {key: value for key, value in meta.items() if key != "sha256"}
    if meta.get("sha256", json_sha256(told)) != json_sha256(told):  # older data have none
        raise ValueError(
            f"{path}: expected what was written there, got something that was changed since (its SHA-256 differs); put"
            " it back as it was, or collect into a new folder"
        )
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{path}: expected a list of environment ids under 'env_ids', got {str(names)[:60]}")
    if not isinstance(goal_size, int) or goal_size < 0:
        raise ValueError(f"{path}: expected a whole number of 0 or more under 'goal_size', got {str(goal_size)[:60]}")
    return meta
