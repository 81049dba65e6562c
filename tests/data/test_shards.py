"""Shards that are not what the format says, or not what was written: one sentence that names the file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grasp_agent.data import EpisodeDataset
from grasp_agent.data.dataset import described
from grasp_agent.data.shards import DIGESTS_NAME, write_shard_files
from grasp_agent.files.atomic import write_json

Arrays = dict[str, np.ndarray]
FRAMES = 8


def arrays() -> Arrays:
    """Two episodes of 4 frames."""
    draw = np.random.default_rng(0)
    return {
        "frames": draw.integers(1, 256, (FRAMES, 16, 16, 3), dtype=np.uint8),
        "actions": draw.uniform(-1, 1, (FRAMES, 2)).astype(np.float32),
        "rewards": np.ones(FRAMES, np.float32),
        "terminated": np.zeros(FRAMES, bool),
        "proprio": draw.uniform(0, 512, (FRAMES, 2)).astype(np.float32),
        "states": np.ones((FRAMES, 3)),
        "lengths": np.array([4, 4]),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder with a shard of such arrays, with digests or, as other programs would, without."""

    def written(*shards: Arrays, digests: bool = False, settings: Any = None) -> Path:
        for number, content in enumerate(shards):
            shard = tmp_path / f"shard-{number:05d}"
            write_shard_files(shard, content)
            if not digests:
                (shard / DIGESTS_NAME).unlink()
        write_json(tmp_path / "dataset.json", described(settings or {}))
        return tmp_path

    return written


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        EpisodeDataset(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value).replace(str(folder), "DATA")


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    content = arrays()
    return {**content, name: change(content[name])}


def zero_tail(array: np.ndarray) -> np.ndarray:
    tail = array.copy()
    tail[-3:] = 0
    return tail


def test_shards_without_digests_are_read(write: Callable[..., Path]) -> None:
    data = EpisodeDataset(write(arrays(), arrays()))
    assert len(data) == 2 * FRAMES and data.lengths.tolist() == [4] * 4
    assert data.states is not None and data.rewards is not None and data.terminated is not None


def test_headers_are_read_one_at_a_time(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads that parse them at once fail now and then, in some versions of Python."""
    inside, together, load = [0], [0], np.load

    def slow(*args: Any, **kwargs: Any) -> Any:
        inside[0] += 1
        together[0] = max(together[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1
        return load(*args, **kwargs)

    folder = write(*(arrays() for _ in range(4)))
    monkeypatch.setattr(np, "load", slow)
    EpisodeDataset(folder)
    assert together == [1]


def test_other_precisions_are_taken_as_the_format_has_them(write: Callable[..., Path]) -> None:
    narrow = {**changed("actions", lambda a: a.astype(np.float64)), "lengths": np.array([4, 4], np.uint8)}
    data = EpisodeDataset(write(narrow))
    assert data.actions.dtype == np.float32 and data.lengths.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("frames", lambda a: a / 255, "expected uint8 [F, H, W, C], got float64 [8, 16, 16, 3]; pictures go from 0"),
        ("frames", lambda a: a[..., 0], "expected uint8 [F, H, W, C], got uint8 [8, 16, 16]"),
        ("frames", lambda a: a[:, :8], "expected square pictures of 3 channels"),
        ("frames", lambda a: a[..., :1], "expected square pictures of 3 channels"),
        ("frames", lambda a: a[:0], "each at least 1, got [0, 16, 16, 3]"),
        ("frames", zero_tail, "expected pictures up to the end, got a last one of zeros"),
        ("actions", lambda a: a[:, 0], "expected float32 [F, A], got float32 [8]"),
        ("actions", lambda a: a[:, :0], "each at least 1, got [8, 0]"),
        ("actions", lambda a: a.astype(int), "expected float32 [F, A], got int64"),
        ("actions", lambda a: a[:5], "expected actions for 8 frames, got 5"),
        ("actions", lambda a: a * np.nan, "expected finite actions, got NaN or infinity"),
        ("rewards", lambda a: a[:, None], "expected float32 [F], got float32 [8, 1]"),
        ("rewards", lambda a: a * np.inf, "expected finite rewards"),
        ("terminated", lambda a: a.astype(float), "expected bool [F], got float64"),
        ("proprio", lambda a: a[:, 0], "expected float32 [F, Q], got float32 [8]"),
        ("proprio", lambda a: a * np.nan, "expected finite proprio, got NaN or infinity"),
        ("proprio", lambda a: a[:6], "expected proprio for 8 frames, got 6"),
        ("states", lambda a: a[:7], "expected states for 8 frames, got 7"),
        ("states", lambda a: a[:, 0], "expected float64 [F, S], got float64 [8]"),
        ("lengths", lambda a: a[:1], "expected lengths for 8 frames, got 4"),
        ("lengths", lambda a: np.array([8, 0]), "expected at least 1 frame in every episode, got 0"),
        ("lengths", lambda a: np.array([9, -1]), "expected at least 1 frame in every episode, got -1"),
        ("lengths", lambda a: np.array([2**63 - 1, 2**63 - 1, 10]), "got 18446744073709551624"),
        ("lengths", lambda a: a.astype(float), "expected int64 [E], got float64"),
        ("lengths", lambda a: np.array([{}, {}]), "expected a whole .npy file"),
    ],
)
def test_arrays_of_another_form_are_refused_by_name(
    name: str, change: Callable[[np.ndarray], np.ndarray], message: str, write: Callable[..., Path]
) -> None:
    said = refusal(write(arrays(), changed(name, change)))
    assert said.startswith(f"DATA/shard-00001/{name}.npy: ") and message in said


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(FRAMES, np.float32), "expected float32 [F, D], got float32 [8]"),
        (np.full((FRAMES, 3), np.nan, np.float32), "expected finite vectors, got NaN or infinity"),
        (np.ones((FRAMES, 3), np.float32), None),
    ],
)
def test_vectors_are_checked_too(vectors: np.ndarray, message: str | None, write: Callable[..., Path]) -> None:
    folder = write({name: array for name, array in {**arrays(), "vectors": vectors}.items() if name != "frames"})
    if message is None:
        assert EpisodeDataset(folder).vectors is not None
    else:
        assert message in refusal(folder)


@pytest.mark.parametrize("name", ["states", "rewards", "terminated", "proprio"])
def test_an_array_that_only_some_shards_have_is_missed(name: str, write: Callable[..., Path]) -> None:
    lacking = {key: value for key, value in arrays().items() if key != name}
    said = refusal(write(arrays(), lacking))
    assert said.startswith(f"DATA/shard-00001/{name}.npy: expected an array like that of shard-00000, or none")


@pytest.mark.parametrize("name", arrays())
def test_what_was_written_is_known_by_its_digest(name: str, write: Callable[..., Path]) -> None:
    folder = write(arrays(), digests=True)
    assert len(EpisodeDataset(folder)) == FRAMES
    file = folder / "shard-00000" / f"{name}.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert refusal(folder).startswith(f"DATA/shard-00000/{name}.npy: expected ")
    file.unlink()
    assert refusal(folder).startswith(f"DATA/shard-00000/{name}.npy: expected ")


def test_black_pictures_at_the_end_are_fine_where_a_digest_tells_that_they_were_written(
    write: Callable[..., Path],
) -> None:
    assert len(EpisodeDataset(write(changed("frames", zero_tail), digests=True))) == FRAMES


def test_pictures_may_all_be_black(write: Callable[..., Path]) -> None:
    assert len(EpisodeDataset(write(changed("frames", np.zeros_like)))) == FRAMES


@pytest.mark.parametrize("content", ["[]", "{", "5", '{"frames.npy": 3}', "{}"])
def test_damaged_digests_are_refused(content: str, write: Callable[..., Path]) -> None:
    folder = write(arrays(), digests=True)
    (folder / "shard-00000" / DIGESTS_NAME).write_text(content)
    assert refusal(folder).startswith("DATA/shard-00000/")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"env_ids": 5}}, "got something that was changed since"),
        ({"goal_size": 3}, "got something that was changed since"),
        ({"settings": {"env_ids": 5}, "sha256": None}, "expected a list of environment ids under 'env_ids', got 5"),
        ({"settings": {"env_ids": [5]}, "sha256": None}, "expected a list of environment ids"),
        ({"goal_size": -1, "sha256": None}, "expected a whole number of 0 or more under 'goal_size', got -1"),
        ({"goal_size": "x", "sha256": None}, "expected a whole number of 0 or more under 'goal_size', got x"),
        ({"settings": []}, "expected format 'grasp-agent episodes'"),
    ],
)
def test_an_edited_description_is_refused(changes: dict[str, Any], message: str, write: Callable[..., Path]) -> None:
    path = write(arrays()) / "dataset.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    said = refusal(path.parent)
    assert said.startswith("DATA/dataset.json: ") and message in said
