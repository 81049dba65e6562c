"""Collecting episodes: every shard is a pure function of (settings, seed, shard number).

So collection runs on all cores, gives the same data whatever their number, and a killed run goes on where it
stopped: a shard is written in a temporary folder and renamed when whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import torch

from grasp_agent.agent.agent import AgentState, GRASPAgent
from grasp_agent.data.dataset import FORMAT, META_NAME, read_meta
from grasp_agent.planning import GRASP
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.workers import in_processes

Row = tuple[Any, Any, Any]
"""A frame, the action taken there (zero at an episode's end) and the simulator state, or None if there is none."""

PLANNED_TOGETHER = 50

POLICIES = ("expert", "random", "planner")
PLANNER = GRASP()
"""What collects with policy "planner": half the work of the usual agent, so that data come quickly."""

SEED_OFFSET = 2**31
"""Collection seeds its environments from here up, so that no evaluation seed below it can meet the same episode."""


@dataclass(frozen=True)
class CollectSettings:
    """What to collect.

    Attributes:
        env_ids: environments to collect in; shards take them in turn.
        env_kwargs: further arguments for all of them.
        policy: "expert" (the environment's `make_expert`), "random" (uniform actions) or "planner" (a `GRASPAgent`
            with a small budget, pixels only, in environments that show or announce a goal image): what a planner
            visits is what its model will be asked about.
        model: the planner's world model, as `load_world_model` takes it; only with policy "planner".
        noise: standard deviation of what is added to the policy's actions, smoothed over about five steps, in
            half-ranges of the action; only with policy "planner".
        steps: environment steps in all, rounded up to whole shards and episodes.
        episode_length: steps of an episode, unless it ends before.
        shard_steps: steps in one shard, at least; its last episode is finished.
        resolution: height and width of the frames.
        seed: of everything.
    """

    env_ids: tuple[str, ...]
    steps: int
    env_kwargs: tuple[tuple[str, Any], ...] = ()
    policy: str = "expert"
    model: str | None = None
    noise: float = 0.0
    episode_length: int = 100
    shard_steps: int = 5000
    resolution: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {self.policy!r}")
        if (self.model is not None) != (self.policy == "planner"):
            raise ValueError(
                f"model: expected a world model with policy 'planner' and none without, got {self.model!r} with"
                f" {self.policy!r}; try model='pusht'"
            )
        if not 0 <= self.noise <= 1 or (self.noise > 0 and self.policy != "planner"):
            raise ValueError(f"noise: expected 0 to 1, and 0 but for policy 'planner', got {self.noise}")
        for name in ("steps", "episode_length", "shard_steps", "resolution"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.env_ids:
            raise ValueError("env_ids: expected at least one environment id, got none")

    @property
    def shards(self) -> int:
        return -(-self.steps // self.shard_steps)


def collect(
    settings: CollectSettings,
    out: str | Path,
    workers: int | None = None,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Write episodes to `out`, going on from the shards already there.

    Args:
        settings: what to collect.
        out: data folder.
        workers: processes; default one per core.
        on_shard: called with (shards done, shards in all) after each shard.

    Returns:
        The data folder.

    Raises:
        ValueError: `out` holds data of other settings (a larger `steps` is fine: the data grows); there is no
            such environment, or it shows no frames of this resolution or has no expert.
        TypeError: its actions are not a Box.
        RuntimeError: a worker process was killed, by a lack of memory for instance.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    out = Path(out)
    meta = {"format": FORMAT, "settings": json.loads(json.dumps(asdict(settings)))}
    if (out / META_NAME).exists():
        # Data collected before planners could collect say nothing of these two.
        there = {"model": None, "noise": 0.0, **read_meta(out)["settings"], "steps": settings.steps}
        if there != meta["settings"]:
            asked = meta["settings"]
            differing = sorted(k for k in there.keys() | asked.keys() if there.get(k) != asked.get(k))
            raise ValueError(
                f"{out}: holds data of other settings (different: {', '.join(differing)}); choose a new folder"
            )
    for env_id in settings.env_ids:  # a mistake shows here, before anything is written
        with _environment(env_id, settings) as env:
            if settings.policy == "planner":
                _goal(env_id, *env.reset(seed=SEED_OFFSET))
                _planner(settings, env.action_space)
    out.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(out)
    temporary = out / f".{META_NAME}"
    temporary.write_text(json.dumps(meta, indent=2) + "\n")
    os.replace(temporary, out / META_NAME)

    missing = [i for i in range(settings.shards) if not (out / f"shard-{i:05d}").is_dir()]
    done = settings.shards - len(missing)
    if on_shard:
        on_shard(done, settings.shards)
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    if workers == 1:
        for i in missing:
            write_shard(settings, out, i)
            done += 1
            if on_shard:
                on_shard(done, settings.shards)
        return out
    try:
        for _ in in_processes(write_shard, [(settings, out, i) for i in missing], workers, str(out)):
            done += 1
            if on_shard:
                on_shard(done, settings.shards)
    finally:
        _remove_unfinished(out)
    return out


def _remove_unfinished(out: Path) -> None:
    for leftover in out.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_shard(settings: CollectSettings, out: Path, shard: int) -> None:
    """Collect the episodes of one shard and write it whole."""
    env_id = settings.env_ids[shard % len(settings.env_ids)]
    frames: list[np.ndarray[Any, Any]] = []
    actions: list[np.ndarray[Any, Any]] = []
    states: list[np.ndarray[Any, Any]] = []
    lengths: list[int] = []
    for episode in _episodes(env_id, settings, shard):
        lengths.append(len(episode))
        for frame, action, state in episode:
            frames.append(frame)
            actions.append(action)
            if state is not None:
                states.append(state)
        if len(frames) - len(lengths) >= settings.shard_steps:
            break

    folder = out / f".writing-{shard:05d}-{os.getpid()}"
    folder.mkdir()
    np.save(folder / "frames.npy", np.stack(frames))
    np.save(folder / "actions.npy", np.stack(actions).astype(np.float32))
    if states:
        np.save(folder / "states.npy", np.stack(states).astype(np.float64))
    np.save(folder / "lengths.npy", np.array(lengths, dtype=np.int64))
    os.replace(folder, out / f"shard-{shard:05d}")


@contextlib.contextmanager
def _environment(env_id: str, settings: CollectSettings) -> Iterator[gymnasium.Env[Any, Any]]:
    env = _make(env_id, settings)
    try:
        if not isinstance(env.action_space, gymnasium.spaces.Box):
            raise TypeError(f"{env_id}: expected a Box action space, got {env.action_space}")
        if settings.policy == "expert" and not hasattr(env.unwrapped, "make_expert"):
            raise ValueError(f"{env_id}: has no scripted expert (make_expert); try policy 'random'")
        space = env.observation_space
        frames = space.spaces.get("pixels") if isinstance(space, gymnasium.spaces.Dict) else space
        want = (settings.resolution, settings.resolution, 3)
        if not isinstance(frames, gymnasium.spaces.Box) or frames.shape != want or frames.dtype != np.uint8:
            raise ValueError(
                f"{env_id}: expected uint8 frames of shape {want}, as observation or under its key 'pixels', "
                f"got {space}; try another resolution, or wrap the environment"
            )
        yield env
    finally:
        env.close()


def _make(env_id: str, settings: CollectSettings) -> gymnasium.Env[Any, Any]:
    """The environment with frames as observations: asked for by name, or as it is if it knows no such arguments."""
    given = dict(settings.env_kwargs)
    try:
        return make_env(env_id, **{"obs_type": "pixels", "resolution": settings.resolution, **given})
    except ValueError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        return make_env(env_id, **given)


def _episodes(env_id: str, settings: CollectSettings, shard: int) -> Iterator[list[Row]]:
    """The shard's episodes, without end."""
    if settings.policy == "planner":
        for first in itertools.count(step=PLANNED_TOGETHER):
            yield from _planned_episodes(env_id, settings, shard, first)
    with _environment(env_id, settings) as env:
        for number in itertools.count():
            yield list(_episode(env, settings, shard, number))


def _draws(settings: CollectSettings, shard: int, episode: int) -> tuple[int, int]:
    """The environment's and the policy's seed."""
    draws = np.random.SeedSequence([settings.seed, shard, episode]).generate_state(2)
    return SEED_OFFSET + int(draws[0]) % SEED_OFFSET, int(draws[1])


def _episode(env: gymnasium.Env[Any, Any], settings: CollectSettings, shard: int, episode: int) -> Iterator[Row]:
    """One episode of the expert or of random actions."""
    seed, policy_seed = _draws(settings, shard, episode)
    obs, _ = env.reset(seed=seed)
    inner: Any = env.unwrapped
    act: Callable[[], Any]
    if settings.policy == "expert":
        act = inner.make_expert(policy_seed).act
    else:
        env.action_space.seed(policy_seed)
        act = env.action_space.sample
    for _ in range(settings.episode_length):
        action = np.asarray(act(), dtype=np.float32)
        yield _frame(obs), action, _state(inner)
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    yield _frame(obs), np.zeros_like(action), _state(inner)


def _planned_episodes(env_id: str, settings: CollectSettings, shard: int, first: int) -> list[list[Row]]:
    """A batch of episodes in lock step: a planner decides for many at little more cost than for one."""
    with contextlib.ExitStack() as stack:
        envs = [stack.enter_context(_environment(env_id, settings)) for _ in range(PLANNED_TOGETHER)]
        draws = [_draws(settings, shard, first + i) for i in range(len(envs))]
        seen = [env.reset(seed=seed) for env, (seed, _) in zip(envs, draws, strict=True)]
        observations = [obs for obs, _ in seen]
        goals = [_goal(env_id, *first_sight) for first_sight in seen]
        space = cast(gymnasium.spaces.Box, envs[0].action_space)
        noise = np.stack([_smooth_noise(np.random.default_rng(seed), space, settings) for _, seed in draws])

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # every core has a worker of its own
        agent = _planner(settings, space)
        episodes: list[list[Row]] = [[] for _ in envs]
        running = np.ones(len(envs), bool)
        memory: AgentState | None = None
        for t in range(settings.episode_length):
            batch = {"pixels": np.stack([_frame(obs) for obs in observations]), "goal": np.stack(goals)}
            planned, memory = agent.predict(batch, memory)
            executed = np.clip(planned + noise[:, t], space.low, space.high).astype(np.float32)
            memory = memory.with_last_action(executed)
            for i in np.flatnonzero(running):
                episodes[i].append((_frame(observations[i]), executed[i], _state(envs[i].unwrapped)))
                observations[i], _, terminated, truncated, _ = envs[i].step(executed[i])
                if terminated or truncated or t == settings.episode_length - 1:
                    running[i] = False
                    rest = np.zeros_like(executed[i])
                    episodes[i].append((_frame(observations[i]), rest, _state(envs[i].unwrapped)))
            if not running.any():
                break
        torch.set_num_threads(threads)
        return episodes


def _goal(env_id: str, obs: Any, info: dict[str, Any]) -> Any:
    """The goal image that an environment shows or announces."""
    goal = obs.get("goal") if isinstance(obs, dict) else info.get("goal")
    if goal is None:
        raise ValueError(f"{env_id}: policy 'planner' expected a goal image in observation or info, got none")
    return goal


def _planner(settings: CollectSettings, space: gymnasium.Space[Any]) -> GRASPAgent:
    agent = GRASPAgent.from_pretrained(str(settings.model), space, planner=PLANNER)
    side = getattr(agent.world_model, "image_size", None)
    if side != settings.resolution:
        raise ValueError(
            f"resolution: expected {side} px, which the world model {settings.model!r} sees, got {settings.resolution}"
        )
    return agent


def _smooth_noise(generator: np.random.Generator, space: gymnasium.spaces.Box, settings: CollectSettings) -> Any:
    """Exploration noise of an episode, [episode_length, *action shape], environment units."""
    white = generator.normal(size=(settings.episode_length, *space.shape))
    keep = 0.8
    noise = np.empty_like(white)
    noise[0] = white[0]
    for t in range(1, len(white)):
        noise[t] = keep * noise[t - 1] + (1 - keep**2) ** 0.5 * white[t]
    return settings.noise * noise * (space.high - space.low) / 2


def _frame(obs: Any) -> Any:
    return obs["pixels"] if isinstance(obs, dict) else obs


def _state(inner: Any) -> Any:
    return np.asarray(inner.get_state(), dtype=np.float64) if hasattr(inner, "get_state") else None
