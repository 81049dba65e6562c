"""Episodes on disk, memory-mapped: a folder of shards, each written whole or not at all.

DATA/dataset.json                     what the data is and how it was made
DATA/shard-00000/frames.npy           uint8   [frames, height, width, 3]; pictures, or in their place
                 vectors.npy          float32 [frames, D]
                 actions.npy          float32 [frames, action_dim]; the last of an episode is unused (zero); a choice
                                      is a 1 among zeros
                 rewards.npy          float32 [frames]; of the step from a frame to the next; the last is zero
                 terminated.npy       bool    [frames]; whether the episode ended there, not by a time limit
                 states.npy           float64 [frames, state_dim]; simulator state, only for supervision and probes
                 lengths.npy          int64   [episodes], frames of each episode, in order

Older data hold neither rewards nor terminated. A frame is what was observed at one time, a picture or a vector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

META_NAME = "dataset.json"
FORMAT = "grasp-agent episodes"


class EpisodeDataset:
    """Read-only view of collected episodes, of one data folder or of several together.

    Frames are numbered through all shards; pictures stay on disk, everything else is in memory.

    Attributes:
        folder: the first data folder.
        settings: how each folder was collected.
        actions: [F, action_dim]; `actions[i]` leads from frame i to i + 1 inside an episode.
        vectors: [F, D] observations that are vectors; None if they are pictures.
        rewards: [F] of the steps from frame i to i + 1 inside an episode, or None.
        terminated: [F] whether an episode ended in a frame, other than by a time limit, or None.
        states: [F, state_dim] simulator states, or None.
        starts: first frame of each episode, [E].
        lengths: frames of each episode, [E].
        goal_size: of vectors, how many of the last numbers goals are about; 0 means all.
        source: number of the folder each episode is from, [E].
        environment: number of the environment each episode is from, [E]; folders may share environments.

    Raises:
        FileNotFoundError: not a data folder.
        ValueError: none given, of another format, without a finished shard, with a damaged one, or of frames or
            actions that do not fit the first folder's.
    """

    def __init__(self, *folders: str | Path) -> None:
        if not folders:
            raise ValueError("data: expected at least one data folder, got none")
        self.folder = Path(folders[0])
        self.settings: list[dict[str, Any]] = []
        self.goal_size = int(read_meta(self.folder).get("goal_size", 0))
        shards: list[Path] = []
        of_folder: list[int] = []
        of_environment: list[int] = []
        environments: dict[str, int] = {}
        for number, folder in enumerate(folders):
            self.settings.append(read_meta(Path(folder))["settings"])
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
        self._frames = [_observations(p) for p in shards]
        self._first = np.cumsum([0] + [len(f) for f in self._frames])
        actions = [_load(p / "actions.npy") for p in shards]
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
        self.rewards: NDArray[np.float32] | None = _joined(shards, "rewards")
        self.terminated: NDArray[np.bool_] | None = _joined(shards, "terminated")
        self.states: NDArray[np.float64] | None = _joined(shards, "states")
        lengths = [_load(p / "lengths.npy") for p in shards]
        self.lengths: NDArray[np.int64] = np.concatenate(lengths)
        self.source: NDArray[np.int64] = np.repeat(of_folder, [len(n) for n in lengths])
        self.environment: NDArray[np.int64] = np.repeat(of_environment, [len(n) for n in lengths])
        for name, count in (("actions", len(self.actions)), ("lengths", int(self.lengths.sum()))):
            if count != len(self):
                raise ValueError(
                    f"{folder}: expected {name} for its {len(self)} frames, got {count}; collect them again"
                )
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

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


def _observations(shard: Path) -> NDArray[Any]:
    """The frames of a shard, pictures (left on disk) or vectors."""
    if (shard / "vectors.npy").is_file():
        return _load(shard / "vectors.npy")
    return _load(shard / "frames.npy", mmap=True)


def _joined(shards: list[Path], name: str) -> NDArray[Any] | None:
    """What all shards hold under a name, one after the other; None if one lacks it."""
    paths = [shard / f"{name}.npy" for shard in shards]
    return np.concatenate([_load(path) for path in paths]) if all(path.is_file() for path in paths) else None


def _load(path: Path, mmap: bool = False) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a whole .npy file, got none or a damaged one ({reason}); remove {path.parent.name} "
            "and run `grasp-agent collect` again"
        ) from None
    return array


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
    try:
        meta = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: expected JSON, got something else; collect into a new folder") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("settings"), dict):
        raise ValueError(f"{path}: expected format {FORMAT!r}; collect into a new folder")
    return meta
