"""LeRobot data sets, version 3, in a folder (https://huggingface.co/docs/lerobot).

FOLDER/meta/info.json                            features, frames a second, where the files are
       meta/episodes/chunk-*/file-*.parquet      of each episode: its length, and where its rows and frames are
       data/chunk-*/file-*.parquet               one row per frame; several episodes in a file
       videos/KEY/chunk-*/file-*.mp4             the pictures of several episodes, one after the other

A row holds what was observed at one time and the action that was taken then. What the last action of an episode led to
is not there. So this action and its reward are left out: an episode of N rows has N - 1 steps. Whether an episode came
to an end or was cut off is not there either; no frame of it is a final one.
"""

from __future__ import annotations

import importlib
import io
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.agent.actions import ActionCode
from grasp_agent.core.checks import shown
from grasp_agent.data.foreign.source import (
    Arrays,
    Source,
    action_space_of,
    bounded,
    choose_picture,
    environment_settings,
    frame_of,
    with_end,
)
from grasp_agent.files.digest import file_digest
from grasp_agent.files.reading import read_json

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
ACTION, REWARD, OBSERVATION = "action", "next.reward", "observation."
STATE = "observation.state"
"""What the robot knows of itself."""


class LeRobotSource(Source):
    """A LeRobot data set in a folder.

    Args:
        folder: with meta/info.json in it.
        side: height and width of the recorded pictures.
        picture_key: which of several pictures is recorded, as in "observation.image"; None finds out.
        env_id: the environment that the data are from, by whose bounds actions are told; None if none is.
        env_kwargs: its arguments.
        action_bounds: of the actions, see `source.bounded`, where no environment tells them. Without either, actions
            must lie between -1 and 1.

    Raises:
        FileNotFoundError: no such folder, or a file is missing.
        ValueError: another version, a damaged file, observations that are neither pictures nor vectors, or actions
            that do not fit the environment or need bounds.
        ImportError: pyarrow is not installed.
    """

    def __init__(
        self,
        folder: Path,
        side: int,
        picture_key: str | None,
        env_id: str | None,
        env_kwargs: Mapping[str, Any],
        action_bounds: Sequence[float],
    ) -> None:
        _pyarrow()
        self.folder, self.name = folder, f"lerobot:{folder}"
        self.info = _read_info(folder)
        features = self.info["features"]
        pictures = [key for key, one in features.items() if one.get("dtype") in ("video", "image")]
        self.picture = choose_picture(self.name, pictures, picture_key)
        self.in_rows = self.picture is not None and features[self.picture]["dtype"] == "image"
        self.side = None if self.picture is None else side
        self.vectors = sorted(
            key
            for key, one in features.items()
            if key.startswith(OBSERVATION) and _is_numbers(one) and len(one["shape"]) == 1
        )
        self.proprio = STATE if self.picture is not None and STATE in self.vectors else None
        if self.picture is None and not self.vectors:
            raise ValueError(f"{self.name}: expected pictures or vectors among its features, got {', '.join(features)}")
        if ACTION not in features or not _is_numbers(features[ACTION]):
            raise ValueError(f"{self.name}: expected numbers as a feature 'action', got {', '.join(features)}")
        self.rewarded = REWARD in features
        self.goal_size = 0
        self.episodes = self._read_episodes()
        self.lengths = [int(one["length"]) for one in self.episodes]
        self._tables: dict[Path, Any] = {}
        self._video = _Video()
        self.code = self._code(env_id, env_kwargs, action_bounds)
        self.settings = {
            "source": f"lerobot:{folder.resolve().name}",
            "sha256": file_digest(folder / "meta" / "info.json"),
            **environment_settings(env_id, env_kwargs),
            "policy": "recorded",
            "episodes": len(self.lengths),
            "steps": sum(self.lengths) - len(self.lengths),
            "resolution": self.side,
            "picture_key": self.picture,
            "action_bounds": list(action_bounds),
            **({} if self.proprio is None else {"proprio_key": self.proprio}),
        }

    def episode(self, number: int) -> Arrays:
        rows = self._rows(number)
        arrays: Arrays = {}
        if self.side is None:
            arrays["vectors"] = np.concatenate([self._numbers(rows, key) for key in self.vectors], axis=1)
        else:
            pictures = self._pictures(number, rows)
            arrays["frames"] = np.stack([frame_of(picture, self.side) for picture in pictures])
            if self.proprio is not None:
                arrays["proprio"] = self._numbers(rows, self.proprio)
        arrays["actions"] = with_end(self.code.read(self._numbers(rows, ACTION)[:-1]), np.float32)
        if self.rewarded:
            arrays["rewards"] = with_end(self._numbers(rows, REWARD)[:-1, 0], np.float32)
            arrays["terminated"] = np.zeros(len(arrays["actions"]), dtype=bool)
        return arrays

    def close(self) -> None:
        self._video.close()

    # ---- what is told

    def _code(self, env_id: str | None, env_kwargs: Mapping[str, Any], bounds: Sequence[float]) -> ActionCode:
        size = int(np.prod(self.info["features"][ACTION]["shape"]))
        if env_id is not None:
            if bounds:
                raise ValueError(
                    "action bounds: expected none beside an environment, which tells them, got both; leave one out"
                )
            space = action_space_of(env_id, env_kwargs)
            if not isinstance(space, spaces.Box) or int(np.prod(space.shape)) != size:
                raise ValueError(
                    f"{self.name}: expected an environment with {size} numbers in an action, as in the data, got"
                    f" {env_id!r} with {space}; try another --env"
                )
            return ActionCode.for_data(space)
        if bounds:
            return ActionCode.for_data(bounded((size,), bounds))
        files = {self._file(number) for number in range(len(self.lengths))}
        every = np.concatenate([self._numbers(_table(file, [ACTION]), ACTION) for file in sorted(files)])
        if not (np.abs(every) <= 1).all():
            raise ValueError(
                f"{self.name}: expected actions from -1 to 1, or to be told their bounds, which the format does not"
                f" tell, got actions from {every.min():g} to {every.max():g}; try --env ID, or --action-bounds LEAST"
                " LARGEST"
            )
        return ActionCode(spaces.Box(-1, 1, (size,), np.float32))

    def _read_episodes(self) -> list[dict[str, Any]]:
        """Of each episode, in order: its number and length, and where its rows and frames are."""
        files = sorted((self.folder / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise FileNotFoundError(
                f"{self.name}: expected meta/episodes/chunk-*/file-*.parquet, found none; is the data set complete?"
            )
        wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        if self.picture is not None and not self.in_rows:
            wanted += [f"videos/{self.picture}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        rows = [row for file in files for row in _table(file, wanted).to_pylist()]
        for row in rows:
            if any(not isinstance(value, int | float) for value in row.values()) or row["length"] < 1:
                raise ValueError(f"{self.name}: expected a number under each of {', '.join(wanted)}, got {row}")
        if not rows:
            raise ValueError(f"{self.name}: expected at least one episode, got none")
        return sorted(rows, key=lambda row: int(row["episode_index"]))

    # ---- rows

    def _rows(self, number: int) -> Any:
        """The rows of an episode, in the order of time."""
        row, path = self.episodes[number], self._file(number)
        if path not in self._tables:
            wanted = [ACTION] if self.picture is not None else [ACTION, *self.vectors]
            if self.rewarded:
                wanted.append(REWARD)
            if self.proprio is not None:
                wanted.append(self.proprio)
            if self.in_rows:
                wanted.append(str(self.picture))
            # The rows of one file are kept: episodes are asked for in order.
            self._tables = {path: _table(path, [*wanted, "episode_index", "frame_index"])}
        table = self._tables[path]
        inside = table.filter(np.equal(table["episode_index"].to_numpy(), row["episode_index"]))
        return inside.sort_by("frame_index")

    def _file(self, number: int) -> Path:
        """Where the rows of an episode are."""
        return self.folder / _filled(self.info.get("data_path") or DATA_PATH, self.episodes[number], "data")

    def _numbers(self, rows: Any, key: str) -> NDArray[np.float32]:
        """A column of F rows -> [F, D], each row's numbers one after the other."""
        values = rows[key].combine_chunks()
        while hasattr(values, "flatten") and hasattr(values.type, "value_type"):  # lists, perhaps of lists
            values = values.flatten()
        size = int(np.prod(self.info["features"][key]["shape"]))
        numbers: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
        if numbers.size != len(rows) * size:
            raise ValueError(
                f"{self.name}: expected {size} numbers in each row of {key!r}, got {numbers.size} in {len(rows)} rows"
            )
        return numbers.reshape(len(rows), size)

    # ---- pictures

    def _pictures(self, number: int, rows: Any) -> Iterator[NDArray[np.uint8]]:
        """The pictures of an episode, uint8 [H, W, 3] each."""
        assert self.picture is not None
        if self.in_rows:
            for cell in rows[self.picture].to_pylist():
                yield self._decoded(cell)
            return
        row, key = self.episodes[number], f"videos/{self.picture}"
        template = self.info.get("video_path") or VIDEO_PATH
        path = self.folder / _filled(template, row, key, video_key=self.picture)
        rate = float(self.info["features"][self.picture].get("info", {}).get("video.fps", self.info["fps"]))
        first = round(float(row[f"{key}/from_timestamp"]) * rate)
        yield from self._video.frames(path, first, self.lengths[number])

    def _decoded(self, cell: Any) -> NDArray[np.uint8]:
        """A picture as a row holds it: the bytes of its file, or the file's place in the folder."""
        content = cell.get("bytes") if isinstance(cell, Mapping) else None
        if content is None and not (isinstance(cell, Mapping) and isinstance(cell.get("path"), str)):
            raise ValueError(f"{self.name}: expected the bytes of a picture or its path in {self.picture!r}, got none")
        try:
            with Image.open(io.BytesIO(content) if content is not None else self.folder / cell["path"]) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"{self.name}: expected pictures in {self.picture!r}, got damaged ones ({error})"
            ) from None


class _Video:
    """Frames of video files by number. Frames are decoded one after the other, so they are best asked for in order.

    ffmpeg writes one PPM file after the other to a pipe, each of which tells its size.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.position = 0

    def frames(self, path: Path, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        """`count` frames from number `first` of a file, uint8 [H, W, 3] each.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it cannot be read, or has fewer frames.
        """
        if self.path != path or self.position > first:
            self._open(path)
        while self.position < first:
            self._next(first + count)
        for _ in range(count):
            yield self._next(first + count)

    def close(self) -> None:
        """End ffmpeg."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.path, self.process, self.position = None, None, 0

    def _open(self, path: Path) -> None:
        import imageio_ffmpeg

        self.close()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a video, found no such file; is the data set complete?")
        words = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "quiet", "-i", f"file:{path}"]
        words += ["-map", "0:v:0", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
        self.path = path

    def _next(self, needed: int) -> NDArray[np.uint8]:
        assert self.process is not None and self.process.stdout is not None
        pipe = self.process.stdout
        magic, size, most = pipe.readline(), pipe.readline().split(), pipe.readline()
        if (magic, len(size), most) == (b"P6\n", 2, b"255\n"):
            width, height = map(int, size)
            content = pipe.read(width * height * 3)
            if len(content) == width * height * 3:
                self.position += 1
                return np.frombuffer(content, np.uint8).reshape(height, width, 3)
        if self.position == 0:
            raise ValueError(f"{self.path}: expected a video that ffmpeg reads, got another file or a damaged one")
        raise ValueError(f"{self.path}: expected at least {needed} frames, got {self.position}; is the file complete?")


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ImportError("LeRobot data sets need the package pyarrow: pip install 'grasp-agent[lerobot]'") from None


def _read_info(folder: Path) -> dict[str, Any]:
    """The content of meta/info.json, as far as it is needed, checked."""
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise FileNotFoundError(f"lerobot:{folder}: expected a LeRobot data set with meta/info.json, found none")
    info: dict[str, Any] = read_json(path)
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if not isinstance(version, str) or not version.startswith("v3"):
        raise ValueError(f"{path}: expected LeRobot data of version v3, got {version}; convert them with LeRobot first")
    features, rate = info.get("features"), info.get("fps")
    told = isinstance(features, dict) and all(
        isinstance(one, dict) and isinstance(one.get("shape"), list) for one in features.values()
    )
    if not told or not isinstance(rate, int | float) or rate <= 0:
        raise ValueError(f"{path}: expected 'features', each with its shape, and 'fps' above 0, got something else")
    return info


def _is_numbers(feature: Mapping[str, Any]) -> bool:
    return str(feature.get("dtype")).startswith(("float", "int", "uint"))


def _filled(template: Any, row: Mapping[str, Any], prefix: str, **names: str) -> str:
    """The path of the file that holds part of an episode."""
    if len(str(template)) > 300 or re.search(r":\d{3,}", str(template)):  # a width would fill the memory
        raise ValueError(f"meta/info.json: expected a path such as {DATA_PATH!r}, got {shown(template)}")
    try:
        place = {name: int(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}
        return str(template).format(**place, **names)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"meta/info.json: expected a path such as {DATA_PATH!r}, got {template!r}") from None


def _table(path: Path, columns: Sequence[str]) -> Any:
    """Some columns of a parquet file."""
    parquet = _pyarrow()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a parquet file, found none; is the data set complete?")
    try:
        there = parquet.read_schema(path).names
        missing = [name for name in columns if name not in there]
        if not missing:
            return parquet.read_table(path, columns=list(columns))
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: expected a whole parquet file, got a damaged one ({reason})") from None
    raise ValueError(f"{path}: expected the columns {', '.join(columns)}, got none for {', '.join(missing)}")
