"""Who takes part in an evaluation: agents, stable-baselines3 policies and the simple references.

An `Entrant` knows which observation it needs, and turns observations into actions, one episode at a time.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import nn

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.capabilities import image_size_of
from grasp_agent.rollouts.environments import image_side, open_env, same_space

OBS_TYPES = ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")

# Hyperparameters that only this algorithm saves, most specific first: A2C has nothing that PPO lacks.
_ALGORITHMS = {
    "PPO": "clip_range",
    "A2C": "gae_lambda",
    "DQN": "exploration_fraction",
    "SAC": "target_entropy",
    "TD3": "policy_delay",
}
KNOWN_ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3", "each of them with or without HER")
REFERENCES = ("random", "zero", "expert")


class Entrant(Protocol):
    """One participant."""

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
        """Make its own environment; also return the arguments it was made with."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what determines its actions, JSON-serialisable."""
        ...

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        """Begin an episode, just after the environment's reset."""
        ...

    def act(self, observation: Any) -> Any:
        """Choose the next action."""
        ...


def make_entrants(entrants: Mapping[str, Any] | Sequence[str]) -> dict[str, Entrant]:
    """Turn what users hand over into entrants.

    Args:
        entrants: name to participant: an `MPCAgent`, any object with stable-baselines3's `predict`, the path
            of a stable-baselines3 .zip, or one of "random", "zero" and "expert". A plain sequence of the
            latter will do.

    Raises:
        ValueError: none given, or an unknown name, a file that is missing, damaged or of an unknown
            algorithm.
        TypeError: a participant of another kind.
    """
    if not isinstance(entrants, Mapping):
        entrants = {str(entrant): entrant for entrant in entrants}
    if not entrants:
        raise ValueError("entrants: expected at least one, got none")
    return {name: _make_entrant(name, participant) for name, participant in entrants.items()}


def _make_entrant(name: str, participant: Any) -> Entrant:
    if isinstance(participant, MPCAgent):
        return AgentEntrant(participant)
    if isinstance(participant, str | Path):
        if str(participant) == "random":
            return RandomEntrant()
        if str(participant) == "zero":
            return ZeroEntrant()
        if str(participant) == "expert":
            return ExpertEntrant()
        if Path(participant).suffix == ".zip":
            return PolicyEntrant(load_policy(participant), {"file": file_digest(participant)})
        raise ValueError(
            f"entrant {name!r}: expected {', '.join(REFERENCES)}, the path of a stable-baselines3 .zip,"
            f" or an agent, got {str(participant)!r}"
        )
    if callable(getattr(participant, "predict", None)):
        return PolicyEntrant(participant, {"class": f"{type(participant).__module__}.{type(participant).__qualname__}"})
    raise TypeError(
        f"entrant {name!r}: expected an MPCAgent, an object with predict, a .zip path or one of"
        f" {', '.join(REFERENCES)}, got {type(participant).__name__}"
    )


class AgentEntrant:
    """An `MPCAgent`: sees pixels of its world model's size, and is told the goal if observations lack it."""

    def __init__(self, agent: MPCAgent) -> None:
        self.agent = agent

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
        side = image_size_of(self.agent.world_model)
        acts = self.agent.action_space

        def fits(env: gym.Env[Any, Any]) -> bool:
            if side is not None and image_side(env.observation_space) != side:
                return False
            offered = env.action_space
            if not isinstance(offered, spaces.Box) or offered.shape != acts.shape:
                return False
            return bool((acts.low >= offered.low).all() and (acts.high <= offered.high).all())

        if side is None:
            return open_env(env_id, env_kwargs, [{}], fits, f"actions that hold the agent's {acts}")
        wishes: list[dict[str, Any]] = [{"obs_type": "pixels", "resolution": side}, {"resolution": side}, {}]
        needs = f"{side} x {side} x 3 uint8 images for the world model, and actions that hold the agent's {acts}"
        return open_env(env_id, env_kwargs, wishes, fits, needs)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        return {
            "kind": type(agent).__name__,
            "world_model": model_digest(agent.world_model),
            "planner": _stable_repr(agent.planner),
            "objective": _stable_repr(agent.objective),
            "horizon": agent.horizon,
            "budget": dataclasses.asdict(agent.budget),
            "replan_every": agent.replan_every,
            "seed": agent.seed,
        }

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        # The goal is the task, not the simulator's state: environments without goal observations announce it
        # here.
        has_goal = isinstance(observation, Mapping) and ("goal" in observation or "desired_goal" in observation)
        self.agent.reset(goal=None if has_goal else info.get("goal"))

    def act(self, observation: Any) -> Any:
        return self.agent.act(observation)


class PolicyEntrant:
    """Any object with stable-baselines3's `predict`, recurrent ones included.

    Args:
        policy: the object; its `observation_space` and `action_space`, where it has them, say which
            environment it needs.
        identity: what tells it from others, JSON-serialisable.
    """

    def __init__(self, policy: Any, identity: dict[str, Any]) -> None:
        self.policy = policy
        self.identity = identity
        self._memory: Any = None
        self._first = True

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
        seen: spaces.Space[Any] | None = getattr(self.policy, "observation_space", None)
        acts: spaces.Space[Any] | None = getattr(self.policy, "action_space", None)

        def fits(env: gym.Env[Any, Any]) -> bool:
            suits = seen is None or same_space(seen, env.observation_space)
            return suits and (acts is None or acts == env.action_space)

        side = None if seen is None else image_side(seen)
        sized = {} if side is None else {"resolution": side}
        wishes: list[dict[str, Any]] = [{}, *({"obs_type": kind, **sized} for kind in OBS_TYPES)]
        return open_env(env_id, env_kwargs, wishes, fits, f"the policy's spaces, {seen} and {acts}")

    def describe(self) -> dict[str, Any]:
        return {"kind": type(self.policy).__name__, **self.identity}

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        self._memory, self._first = None, True

    def act(self, observation: Any) -> Any:
        action, self._memory = self.policy.predict(
            observation, state=self._memory, episode_start=np.array([self._first]), deterministic=True
        )
        self._first = False
        return action


class _Reference:
    """An entrant that does not look: it takes the environment as it comes."""

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
        return open_env(env_id, env_kwargs, [{}], lambda env: True, "any observation")

    def describe(self) -> dict[str, Any]:
        return {"kind": type(self).__name__.removesuffix("Entrant").lower()}


class RandomEntrant(_Reference):
    """Uniformly random actions, seeded by the episode."""

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        self._space = copy.deepcopy(env.action_space)
        self._space.seed(seed)

    def act(self, observation: Any) -> Any:
        return self._space.sample()


class ZeroEntrant(_Reference):
    """The zero action (the nearest to it within the bounds) at every step: what happens if nobody acts.

    With absolute control zero is a place, not rest: use it with relative actions.
    """

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        space = env.action_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"entrant 'zero': expected a Box action space, got {type(space).__name__}")
        self._action = np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)

    def act(self, observation: Any) -> Any:
        return self._action.copy()


class ExpertEntrant(_Reference):
    """The environment's own scripted expert, which reads the simulator: a reference, not a competitor."""

    def begin(self, env: gym.Env[Any, Any], seed: int, observation: Any, info: Mapping[str, Any]) -> None:
        make_expert = getattr(env.unwrapped, "make_expert", None)
        if make_expert is None:
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
            raise ValueError(f"entrant 'expert': expected an environment with make_expert, which {name!r} lacks")
        self._expert = make_expert(seed, goal="task")

    def act(self, observation: Any) -> Any:
        return self._expert.act()


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


def file_digest(path: str | Path) -> str:
    """First 16 hex digits of a file's SHA-256."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def model_digest(model: Any) -> str:
    """First 16 hex digits of the SHA-256 of a model's state, names and values; the repr of what is no torch module."""
    if not isinstance(model, nn.Module):
        return _stable_repr(model)
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _stable_repr(value: Any) -> str:
    """A repr without memory addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
