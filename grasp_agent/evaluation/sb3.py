"""Saved stable-baselines3 policies: which algorithm wrote them, and how they load wherever they were made."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

# Hyperparameters that only this algorithm saves, most specific first: A2C has nothing that PPO lacks.
_ALGORITHMS = {
    "PPO": "clip_range",
    "A2C": "gae_lambda",
    "DQN": "exploration_fraction",
    "SAC": "target_entropy",
    "TD3": "policy_delay",
}
KNOWN_ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3", "each of them with or without HER")


def load_policy(path: str | Path) -> Any:
    """Load a stable-baselines3 policy for prediction, whatever its algorithm.

    The file is a pickle inside: load only what you trust.

    Raises:
        ValueError: missing, damaged, not a stable-baselines3 file, or of an unknown algorithm.
        ImportError: stable-baselines3 is not installed.
    """
    import stable_baselines3

    name = algorithm_of(path)
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
        return getattr(stable_baselines3, name).load(path, device="cpu", custom_objects=training_only)
    except Exception as error:  # unpickling and rebuilding a policy can fail in any way
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a loadable {name} policy, got {type(error).__name__}: {reason}") from error


def algorithm_of(path: str | Path) -> str:
    """Name the stable-baselines3 algorithm that wrote a file, from its hyperparameters; nothing is unpickled.

    Raises:
        ValueError: missing, damaged, not a stable-baselines3 file, or of an unknown algorithm.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: expected a stable-baselines3 .zip, got no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        author = str(data["policy_class"].get("__module__"))
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, TypeError, OSError) as error:
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
