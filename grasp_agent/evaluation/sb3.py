"""Saved stable-baselines3 policies: which algorithm wrote them, and how they load wherever they were made.

Such a file holds pickles, and a pickle may run any code when it is loaded. So a file is loaded only if it ships with
this package, which its digest tells, or if the caller says that it is trusted.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from grasp_agent.files.digest import sha256
from grasp_agent.files.reading import UNPACKED_LIMIT, TooLarge, check_archive

# Hyperparameters that only this algorithm saves, most specific first: A2C has nothing that PPO lacks.
_ALGORITHMS = {
    "PPO": "clip_range",
    "A2C": "gae_lambda",
    "DQN": "exploration_fraction",
    "SAC": "target_entropy",
    "TD3": "policy_delay",
}
KNOWN_ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3", "each of them with or without HER")


SHIPPED = frozenset({"a78cea105d55f626fa7a51b8e707b601aaff1d0daf6827091098cc9cac7ea703"})
"""SHA-256 of every policy that ships with this package."""


def load_policy(path: str | Path, *, trust: bool = False) -> Any:
    """Load a stable-baselines3 policy for prediction, whatever its algorithm.

    Args:
        path: the .zip file.
        trust: load it although it may run any code, which you know to be harmless because you know who made it. What
            ships with this package needs no trust.

    Raises:
        ValueError: missing, damaged, too large, not a stable-baselines3 file, of an unknown algorithm, or not trusted.
        ImportError: stable-baselines3 is not installed.
    """
    import stable_baselines3

    content = _content(path)
    name = _algorithm_of(path, content)
    if not trust and sha256(content) not in SHIPPED:
        raise ValueError(
            f"{path}: expected a policy that you trust, because a stable-baselines3 .zip can run any code when it is"
            " loaded; if you know who made it, add --trust (in Python: trust=True); else load its weights alone into a"
            f" policy of your own, `policy = {name}('...', env); policy.set_parameters(path)`, and hand that over"
        )
    # Nothing that only training needs is unpickled: schedules are functions pickled by value, which another
    # Python version cannot read, and a HER replay buffer asks for an environment.
    training_only: dict[str, Any] = {
        "learning_rate": 0.0,
        "lr_schedule": None,
        "clip_range": 0.2,
        "clip_range_vf": None,
        "exploration_schedule": None,
        "action_noise": None,
        "replay_buffer_class": None,
        "replay_buffer_kwargs": {},
        "buffer_size": 1,
        "seed": None,  # else loading would seed everybody's random generators
    }
    try:
        return getattr(stable_baselines3, name).load(io.BytesIO(content), device="cpu", custom_objects=training_only)
    except Exception as error:  # unpickling and rebuilding a policy can fail in any way
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a loadable {name} policy, got {type(error).__name__}: {reason}") from error


def algorithm_of(path: str | Path) -> str:
    """Name the stable-baselines3 algorithm that wrote a file, from its hyperparameters; nothing is unpickled.

    Raises:
        ValueError: missing, damaged, not a stable-baselines3 file, or of an unknown algorithm.
    """
    return _algorithm_of(path, _content(path))


def _content(path: str | Path) -> bytes:
    """The file's bytes, read once: what is checked is what is loaded."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a stable-baselines3 .zip, got no such file")
    if path.stat().st_size > UNPACKED_LIMIT:
        raise ValueError(
            f"{path}: expected a stable-baselines3 .zip of at most {UNPACKED_LIMIT} bytes, got a larger file"
        )
    return path.read_bytes()


def _algorithm_of(path: str | Path, content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(archive)
            data = json.loads(archive.read("data"))
        author = str(data["policy_class"].get("__module__"))
    except TooLarge as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # a damaged archive can fail in any way
        raise ValueError(
            f"{path}: expected a file saved by a stable-baselines3 algorithm, got one that is damaged or of"
            f" another format ({error})"
        ) from error
    found = next((name for name, parameter in _ALGORITHMS.items() if parameter in data), None)
    if found is None or author.startswith("sb3_contrib"):
        raise ValueError(
            f"{path}: expected one of {', '.join(KNOWN_ALGORITHMS)}, got an algorithm with a policy from"
            f" {author}; load it in Python and pass the object instead"
        )
    # DDPG is saved as the TD3 it is built on: without delay, the target's noise clipped to nothing.
    if found == "TD3" and data["policy_delay"] == 1 and data.get("target_noise_clip") == 0.0:
        return "DDPG"
    return found


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Check the archive, and those of the weights within it."""
    check_archive(archive)
    for name in archive.namelist():
        weights = io.BytesIO(archive.read(name))
        if zipfile.is_zipfile(weights):
            with zipfile.ZipFile(weights) as inner:
                check_archive(inner)
