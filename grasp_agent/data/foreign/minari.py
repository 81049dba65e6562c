"""Minari data sets (https://minari.farama.org): read into data folders, and written from them.

A Minari episode of T steps holds T + 1 observations, and T actions, rewards, terminations and truncations. Simulator
states are no part of it.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.observations import IMAGE_KEYS, goal_part, proprio_key, vector_in
from grasp_agent.core.capabilities import PROPRIO_KEYS
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.data.foreign.source import (
    Arrays,
    OnPart,
    Source,
    action_space_of,
    bounded,
    choose_picture,
    environment_settings,
    episodes_by_shard,
    frame_of,
    is_picture,
    with_end,
)
from grasp_agent.files.atomic import check_room, replacing
from grasp_agent.files.lock import locked
from grasp_agent.rollouts.environments import make_env
from grasp_agent.tasks import task_for

NOTES_NAME = "grasp_agent"
"""Under this name the metadata of a data set that was written here hold what Minari has no place for, as JSON text."""
_NAME = re.compile(r"(?:\w[-\w]*/)*\w[-\w]*-v\d+")


def _minari() -> Any:
    """The package, with what stores arrays."""
    try:
        package = importlib.import_module("minari")
        importlib.import_module("h5py")
    except ImportError:
        raise ImportError("Minari data sets need the package minari: pip install 'grasp-agent[minari]'") from None
    return package


class MinariSource(Source):
    """A Minari data set that is installed here.

    Args:
        name: of the data set, as in "D4RL/pointmaze/umaze-v2".
        side: height and width of the recorded pictures.
        picture_key: where in an observation the picture is; None finds out.
        env_id: the environment; None means what the data set says.
        env_kwargs: its arguments, where it is named.
        action_bounds: of the actions, see `source.bounded`; none means what the data set says.
        download: fetch it if it is not here.

    Raises:
        ValueError: it is not here or cannot be read, or observations are neither pictures nor vectors, or actions have
            no bounds.
        TypeError: actions are neither a Box nor choices.
        ImportError: Minari is not installed.
    """

    def __init__(
        self,
        name: str,
        side: int,
        picture_key: str | None,
        env_id: str | None,
        env_kwargs: Mapping[str, Any],
        action_bounds: Sequence[float],
        download: bool,
    ) -> None:
        self.name = f"minari:{name}"
        self.data: Any = _load(name, download)
        self.space: spaces.Space[Any] = self.data.observation_space
        notes = self._notes()
        env_id, env_kwargs = self._environment(env_id, env_kwargs, notes)
        self.picture_key, self.side = self._picture(picture_key, env_id), None
        self.proprio_key: str | None = None
        if is_picture_space(self._part()):
            self.side = side
            if isinstance(self.space, spaces.Dict):
                self.proprio_key = proprio_key(self.space.spaces)
        elif not _is_vectors(self._part()):
            raise ValueError(f"{self.name}: expected observations with a picture or of vectors, got {self.space}")
        self.goal_size = int(notes.get("goal_size", 0)) or (
            goal_part(self.space.spaces) if isinstance(self.space, spaces.Dict) and self.side is None else 0
        )
        action_space = self.data.action_space
        if action_bounds:
            if not isinstance(action_space, spaces.Box):
                raise ValueError(f"action bounds: expected none for choices, got some, and actions {action_space}")
            action_space = bounded(action_space.shape, action_bounds)
        self.code = ActionCode.for_data(action_space)
        metadata = list(self.data.storage.get_episode_metadata(self.data.episode_indices))
        self.lengths = [int(of["total_steps"]) + 1 for of in metadata]
        if not self.lengths:
            raise ValueError(f"{self.name}: expected at least one episode, got none")
        self._has_rewards = notes.get("rewards") is not False
        self.settings = {
            "source": self.name,
            **environment_settings(env_id, env_kwargs),
            "policy": str(self.data.storage.metadata.get("algorithm_name", "unknown")),
            "episodes": len(self.lengths),
            "steps": sum(self.lengths) - len(self.lengths),
            "resolution": self.side,
            "picture_key": self.picture_key,
            **({} if self.proprio_key is None else {"proprio_key": self.proprio_key}),
        }

    def episode(self, number: int) -> Arrays:
        episode = self.data[number]
        shown = observations = episode.observations
        if isinstance(self.space, spaces.Dict):
            observations = vector_in(observations)[0] if self.picture_key is None else observations[self.picture_key]
        observations = np.asarray(observations)
        arrays: Arrays
        if self.side is None:
            arrays = {"vectors": observations.astype(np.float32)}
        else:
            arrays = {"frames": np.stack([frame_of(picture, self.side) for picture in observations])}
            if self.proprio_key is not None:
                arrays["proprio"] = np.asarray(shown[self.proprio_key], np.float32).reshape(len(observations), -1)
        arrays["actions"] = with_end(self.code.read(episode.actions), np.float32)
        if self._has_rewards:
            ended = np.asarray(episode.terminations, dtype=bool)
            arrays["rewards"] = with_end(np.asarray(episode.rewards), np.float32)
            arrays["terminated"] = np.concatenate([[False], ended])
        return arrays

    def _notes(self) -> dict[str, Any]:
        """What `write_minari` noted; nothing for data sets of others."""
        try:
            notes = json.loads(self.data.storage.metadata.get(NOTES_NAME, "{}"))
        except (TypeError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    def _environment(
        self, env_id: str | None, env_kwargs: Mapping[str, Any], notes: Mapping[str, Any]
    ) -> tuple[str | None, Mapping[str, Any]]:
        """The environment that the data are from, and its arguments."""
        if env_id is not None:
            if (acts := action_space_of(env_id, env_kwargs)) != self.data.action_space:
                raise ValueError(
                    f"{self.name}: expected an environment with the actions of the data set,"
                    f" {self.data.action_space}, got {env_id!r} with {acts}; try another --env"
                )
            return env_id, env_kwargs
        spec = self.data.env_spec
        if spec is None:
            return None, {}
        kwargs = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
        return str(notes.get("env_id", spec.id)), kwargs

    def _picture(self, wanted: str | None, env_id: str | None) -> str | None:
        """The key of the pictures in observations that are dictionaries."""
        parts = self.space.spaces if isinstance(self.space, spaces.Dict) else {}
        pictures = [key for key, part in parts.items() if is_picture_space(part)]
        return choose_picture(self.name, pictures, wanted, "" if env_id is None else task_for(env_id).picture_key)

    def _part(self) -> spaces.Space[Any]:
        """The part of the observation space that is recorded."""
        if isinstance(self.space, spaces.Dict) and self.picture_key is not None:
            return self.space[self.picture_key]
        return self.space


def is_picture_space(space: spaces.Space[Any]) -> bool:
    """Whether observations of the space are pictures."""
    return isinstance(space, spaces.Box) and is_picture(space.shape, space.dtype)


def _is_vectors(space: spaces.Space[Any]) -> bool:
    """Whether observations are vectors, or dictionaries that `vector_in` makes one of."""
    if not isinstance(space, spaces.Dict):
        return isinstance(space, spaces.Box) and len(space.shape) == 1
    try:
        vector = vector_in({key: np.zeros(part.shape or ()) for key, part in space.spaces.items()})[0]
    except (TypeError, ValueError):
        return False
    return vector.ndim == 1


def _load(name: str, download: bool) -> Any:
    package = _minari()
    _check_name(name)
    try:
        return package.load_dataset(name, download=download)
    except FileNotFoundError:
        raise ValueError(
            f"minari:{name}: expected a Minari data set that is installed, found none of that name; `minari list local`"
            " shows those that are, --download fetches it"
        ) from None
    except Exception as error:  # a damaged one, or a lack of network, can fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        wanted = "downloaded" if download else "read"
        raise ValueError(f"minari:{name}: expected a Minari data set that can be {wanted}, got {reason}") from None


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"minari:{name}: expected the name of a Minari data set with its version, as in minari:mine/cartpole-v0"
        )


# ---- from a data folder


def write_minari(
    folder: Path,
    name: str,
    env_id: str | None,
    env_kwargs: Mapping[str, Any],
    part_steps: int,
    on_part: OnPart | None = None,
) -> None:
    """Write a data folder as a new Minari data set: whole or not at all.

    Pictures are stored without loss; simulator states are left out. Actions are written as the environment takes them,
    if it is known, else as the numbers in the folder.

    Args:
        folder: data folder.
        name: of the new data set, as in "mine/cartpole-v0".
        env_id: the environment that the data are from; None means what the folder says.
        env_kwargs: its arguments, where it is named.
        part_steps: steps to write at a time.
        on_part: called with (parts done, parts in all).

    Raises:
        FileNotFoundError, ValueError: no data folder (see `EpisodeDataset`), the environment's actions are not those of
            the data, or the name is taken or none.
        ImportError: Minari is not installed.
        RuntimeError: another run writes a data set beside it.
    """
    package = _minari()
    _check_name(name)
    data = EpisodeDataset(folder)
    settings = data.settings[0]
    ids = list(settings.get("env_ids", ())) if env_id is None else [env_id]
    kwargs = dict(settings.get("env_kwargs", ())) if env_id is None else env_kwargs
    acts, spec = _actions_of(data, ids, kwargs, asked=env_id is not None)
    code = ActionCode(acts, centred="centred_actions" in settings)
    if code.size != data.actions.shape[1]:
        raise ValueError(
            f"{folder}: expected actions of {data.actions.shape[1]} numbers, as in the data, got {code.size} in {acts}"
            f" of {ids[0]}; try another --env"
        )
    short = np.flatnonzero(data.lengths < 2)
    if len(short):
        raise ValueError(f"{folder}: expected at least one step in every episode, got none in episode {short[0]}")
    main = (
        spaces.Box(0, 255, (data.image_size, data.image_size, 3), np.uint8)
        if data.vectors is None
        else spaces.Box(-np.inf, np.inf, data.vectors.shape[1:], np.float32)
    )
    shows: spaces.Space[Any] = main
    if data.proprio is not None:
        beside = spaces.Box(-np.inf, np.inf, data.proprio.shape[1:], np.float32)
        shows = spaces.Dict({IMAGE_KEYS[0]: main, PROPRIO_KEYS[0]: beside})
    path = Path(importlib.import_module("minari.storage").get_dataset_path(name))
    if path.exists():
        raise ValueError(f"minari:{name}: expected a name that is not taken, got that of {path}; try the next version")
    check_room(path.parent, len(data) * int(np.prod(main.shape)) * main.dtype.itemsize)
    notes = {"env_id": ids[0] if len(ids) == 1 else None, "goal_size": data.goal_size, "settings": settings}
    notes["rewards"] = data.rewards is not None
    metadata = {
        "dataset_id": name,
        "minari_version": package.__version__,
        "algorithm_name": str(settings.get("policy", "unknown")),
        "description": f"{len(data.lengths)} episodes, written by grasp-agent",
        NOTES_NAME: json.dumps({key: value for key, value in notes.items() if value is not None}),
    }
    storage_kind = importlib.import_module("minari.dataset.minari_storage").MinariStorage
    parts = episodes_by_shard(data.lengths.tolist(), part_steps)
    with locked(path.parent):
        with replacing(path) as temporary:
            temporary.mkdir()
            storage = storage_kind.new(
                temporary / "data", observation_space=shows, action_space=acts, env_spec=spec, jpeg_encoding=False
            )
            storage.update_metadata(metadata)
            for done, part in enumerate(parts):
                if on_part:
                    on_part(done, len(parts))
                storage.update_episodes([_buffer(package, data, code, number) for number in part])
            if on_part:
                on_part(len(parts), len(parts))
        _make_namespace(name)


def _buffer(package: Any, data: EpisodeDataset, code: ActionCode, number: int) -> Any:
    """An episode as Minari takes it."""
    frames = np.arange(data.starts[number], data.starts[number] + data.lengths[number])
    steps = frames[:-1]
    none: NDArray[Any] = np.zeros(len(frames))
    rewards = (none if data.rewards is None else data.rewards[frames])[:-1]
    ended = (none if data.terminated is None else data.terminated[frames])[1:].astype(bool)
    cut = np.zeros(len(steps), dtype=bool)
    cut[-1] = not ended[-1]  # what ends in no final state is cut off there
    seen: Any = data.observations(frames)
    if data.proprio is not None:
        seen = {IMAGE_KEYS[0]: seen, PROPRIO_KEYS[0]: data.proprio[frames]}
    return package.data_collector.EpisodeBuffer(
        observations=seen,
        actions=code.write(data.actions[steps]),
        rewards=rewards,
        terminations=ended,
        truncations=cut,
    )


def _actions_of(
    data: EpisodeDataset, ids: Sequence[str], kwargs: Mapping[str, Any], asked: bool
) -> tuple[spaces.Space[Any], Any]:
    """The action space of the environments that the data are from, and the specification of the one, if it is one.

    Raises:
        ValueError: they act in different ways, or cannot be made and are needed.
    """
    found: list[tuple[spaces.Space[Any], Any]] = []
    reason = "got data that name no environment"
    for env_id in ids:
        try:
            env = make_env(env_id, **kwargs)
        except ValueError as error:
            if asked:
                raise
            reason = f"but {error}"
            break
        found.append((env.action_space, _specification(env)))
        env.close()
    if found and len(found) == len(ids):
        if any(space != found[0][0] for space, _ in found):
            raise ValueError(f"{data.folder}: expected environments with the same actions, got {', '.join(ids)}")
        return found[0][0], found[0][1] if len(found) == 1 else None
    if "centred_actions" in data.settings[0]:
        raise ValueError(
            f"{data.folder}: expected the environment, by whose bounds the actions are told, {reason}; try --env"
        )
    most = float(max(1.0, np.abs(data.actions).max()))
    return spaces.Box(-most, most, data.actions.shape[1:], np.float32), None


def _specification(env: Any) -> Any:
    """How the environment is made, if that can be written."""
    spec = env.unwrapped.spec
    try:
        spec.to_json()
    except Exception:  # an entry point without a name, arguments that are no JSON
        return None
    return spec


def _make_namespace(name: str) -> None:
    """Make what stands before the last slash of a name known to Minari."""
    namespace = name.rpartition("/")[0]
    names = importlib.import_module("minari.namespace")
    if namespace and namespace not in names.list_local_namespaces():
        names.create_namespace(namespace)
