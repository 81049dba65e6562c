"""A shard on disk: the arrays of some whole episodes, written together, and checked once when they are read.

What the arrays are is told in dataset.py. `sha256.json` beside them holds the SHA-256 of each, by which reading notices
what was changed since. Data made by other programs may do without it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_agent.files.atomic import replacing
from grasp_agent.files.digest import sha256
from grasp_agent.files.reading import read_json

DIGESTS_NAME = "sha256.json"

# Of each array: its shape, its kind of numbers (letters as in numpy's dtype.kind), and how they are called.
_FORMS = {
    "frames": ("FHWC", "u", "uint8"),
    "vectors": ("FD", "f", "float32"),
    "actions": ("FA", "f", "float32"),
    "rewards": ("F", "f", "float32"),
    "terminated": ("F", "b", "bool"),
    "proprio": ("FQ", "f", "float32"),
    "states": ("FS", "f", "float64"),
    "lengths": ("E", "iu", "int64"),
}
OPTIONAL = ("rewards", "terminated", "proprio", "states")
_FINITE = ("vectors", "actions", "rewards", "proprio")


def shard_name(number: int) -> str:
    """The name of a shard's folder."""
    return f"shard-{number:05d}"


def write_shard_files(shard: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays of a shard, by name, and their digests: all or nothing."""
    with replacing(shard) as folder:
        folder.mkdir()
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        digests = {f"{name}.npy": sha256(folder / f"{name}.npy") for name in sorted(arrays)}
        (folder / DIGESTS_NAME).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


def read_shard(shard: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a shard by name; pictures stay on disk.

    Raises:
        ValueError: an array is missing, damaged, changed since it was written, or not of the form that dataset.py
            tells; the message names the file.
    """
    observations = "vectors" if (shard / "vectors.npy").is_file() else "frames"
    names = [observations, "actions", "lengths", *(name for name in OPTIONAL if (shard / f"{name}.npy").is_file())]
    arrays = {name: _load(shard / f"{name}.npy", mmap=name == "frames") for name in names}
    for name, array in arrays.items():
        if (wrong := _misfit(name, array)) is not None:
            raise ValueError(f"{shard / name}.npy: {wrong}; {_advice(shard)}")
    frames, lengths = len(arrays[observations]), arrays["lengths"]
    counts = {name: len(array) for name, array in arrays.items() if name != "lengths"}
    counts["lengths"] = sum(map(int, lengths))  # numpy would overflow without a word
    for name, count in counts.items():
        if count != frames:
            raise ValueError(f"{shard / name}.npy: expected {name} for {frames} frames, got {count}; {_advice(shard)}")
    if not _is_noted(shard, names) and observations == "frames" and _ends_black(arrays["frames"]):
        raise ValueError(
            f"{shard / 'frames.npy'}: expected pictures up to the end, got a last one of zeros, as in a file that was"
            f" not written to its end; {_advice(shard)}"
        )
    return arrays


def _misfit(name: str, array: NDArray[Any]) -> str | None:
    """What an array should be but is not, in a sentence; None if it fits."""
    letters, kinds, dtype = _FORMS[name]
    shape = f"{dtype} [{', '.join(letters)}]"
    if array.ndim != len(letters) or array.dtype.kind not in kinds or (name == "frames" and array.dtype != np.uint8):
        hint = "; pictures go from 0 to 255, so multiply those from 0 to 1 by 255" if name == "frames" else ""
        return f"expected {shape}, got {array.dtype} {list(array.shape)}{hint}"
    if 0 in array.shape:
        return f"expected {shape}, each at least 1, got {list(array.shape)}"
    if name == "frames" and (array.shape[1] != array.shape[2] or array.shape[3] != 3):
        return f"expected square pictures of 3 channels, [F, H, H, 3], got {list(array.shape)}"
    if name == "lengths" and int(array.min()) < 1:
        return f"expected at least 1 frame in every episode, got {int(array.min())}"
    if name in _FINITE and not np.isfinite(array).all():
        return f"expected finite {name}, got NaN or infinity"
    return None


def _is_noted(shard: Path, names: list[str]) -> bool:
    """Whether digests are noted for the arrays of a shard; they are compared, then.

    Raises:
        ValueError: an array differs from what was noted.
    """
    path = shard / DIGESTS_NAME
    if not path.is_file():
        return False
    noted = read_json(path)
    if not isinstance(noted, dict):
        raise ValueError(
            f"{path}: expected an object with a digest for each array, got something else; {_advice(shard)}"
        )
    for file in sorted({*noted, *(f"{name}.npy" for name in names)}):
        if not (shard / file).is_file() or sha256(shard / file) != noted.get(file):
            raise ValueError(
                f"{shard / file}: expected the file that was written with {DIGESTS_NAME}, got none or another (its"
                f" SHA-256 differs); {_advice(shard)}"
            )
    return True


def _ends_black(frames: NDArray[np.uint8]) -> bool:
    return bool(not frames[-1].any() and frames[0].any())


def _advice(shard: Path) -> str:
    return f"remove {shard.name} and run `grasp-agent collect` again"


# A .npy header is Python, and to parse it in several threads at once fails now and then: CPython before 3.11.8 and
# 3.12.1 raises SystemError (AST constructor recursion depth mismatch).
_ONE_AT_A_TIME = threading.Lock()


def _load(path: Path, mmap: bool) -> NDArray[Any]:
    try:
        with _ONE_AT_A_TIME:
            array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None)
        if not isinstance(array, np.ndarray):  # an archive of several
            raise ValueError(f"a {type(array).__name__}")
    except Exception as error:  # a damaged header, which is Python, can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: expected a whole .npy file, got none or a damaged one ({reason}); {_advice(path.parent)}"
        ) from None
    return array
