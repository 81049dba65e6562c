"""Collecting episodes: every shard is a pure function of (settings, seed, shard number).

So collection runs on all cores, gives the same data whatever their number, and a killed run goes on where it
stopped: a shard is written in a temporary folder and renamed when whole.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from grasp_agent.agent import GRASPAgent
from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.observations import goal_part, proprio_key, vector_in
from grasp_agent.core.capabilities import PROPRIO_KEYS, image_size_of, needs_goal, proprio_dim_of
from grasp_agent.data.dataset import META_NAME, described, read_meta
from grasp_agent.data.shards import shard_name, write_shard_files
from grasp_agent.files.atomic import check_room, remove_unfinished, write_json
from grasp_agent.files.digest import model_digest
from grasp_agent.files.lock import locked
from grasp_agent.models import load_world_model
from grasp_agent.planning import GRASP, Alternate, GaussNewton, Lifted, TailResample
from grasp_agent.rollouts.environments import make_env, open_env, shows_vectors
from grasp_agent.rollouts.policies import AgentPolicy, box_actions, check_expert, expert_policy, random_policy
from grasp_agent.rollouts.rendered import image_side
from grasp_agent.rollouts.vector import Episode, TimeStep, VectorPolicy, play
from grasp_agent.rollouts.workers import in_processes, one_thread
from grasp_agent.tasks import Task, objective_for, task_for

PLANNED_TOGETHER = 50

POLICIES = ("expert", "random", "planner")
PLANNER = GRASP(
    Alternate(GaussNewton(), Lifted(init_states="rollout"), steps=(3, 1)),
    resample=TailResample(8, first=3, every=4),
    iterations=7,
)
"""What collects with policy "planner": three Gauss-Newton steps to a lifted iteration."""

SEED_OFFSET = 2**31
"""Collection seeds its environments from here up, so that no evaluation seed below it can meet the same episode."""


@dataclass(frozen=True)
class CollectSettings:
    """What to collect.

    Attributes:
        env_ids: environments to collect in; shards take them in turn.
        env_kwargs: further arguments for all of them.
        policy: "expert" (the environment's `make_expert`), "random" (uniform actions) or "planner" (a `GRASPAgent`
            with a small budget, in environments that show or announce a goal, or with a model that foresees rewards):
            what a planner visits is what its model will be asked about.
        expert_kwargs: further arguments for the expert (for `make_expert`); only with policy "expert".
        model: the planner's world model, as `load_world_model` takes it; only with policy "planner".
        noise: standard deviation of what is added to the policy's actions, smoothed over about five steps, in
            half-ranges of the action; only with policy "planner".
        steps: environment steps in all, rounded up to whole shards and episodes.
        episode_length: steps of an episode, unless it ends before.
        shard_steps: steps in one shard, at least; its last episode is finished. Where fewer are asked for, shards are
            smaller; data that grow keep to the shards that they began with.
        resolution: height and width of pictures.
        pixels: record pictures of what the environment renders, if its observations hold none; else these are recorded
            as vectors.
        seed: of everything.
    """

    env_ids: tuple[str, ...]
    steps: int
    env_kwargs: tuple[tuple[str, Any], ...] = ()
    policy: str = "expert"
    expert_kwargs: tuple[tuple[str, Any], ...] = ()
    model: str | None = None
    noise: float = 0.0
    episode_length: int = 100
    shard_steps: int = 5000
    resolution: int = 64
    pixels: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.expert_kwargs and self.policy != "expert":
            raise ValueError(
                f"expert_kwargs: expected none without the expert, got {dict(self.expert_kwargs)} with policy"
                f" {self.policy!r}; try policy 'expert'"
            )
        if "seed" in dict(self.expert_kwargs):
            raise ValueError("expert_kwargs: expected no 'seed', since every episode has one of its own")
        if (self.model is not None) != (self.policy == "planner"):
            raise ValueError(
                f"model: expected a world model with policy 'planner' and none without, got {self.model!r} with"
                f" {self.policy!r}; name one that ships, a folder or a hub id"
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
        TypeError: its actions are neither a Box nor choices.
        RuntimeError: a worker process was killed, by a lack of memory for instance.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    out = Path(out)
    older = read_meta(out) if (out / META_NAME).exists() else None
    size = min(settings.shard_steps, -(-settings.steps // len(settings.env_ids)))
    settings = replace(settings, shard_steps=size if older is None else older["settings"].get("shard_steps", size))
    asked = json.loads(json.dumps(asdict(settings)))
    weights = None if settings.model is None else model_digest(load_world_model(settings.model))
    if older is not None:
        # Data collected before there was a choice say nothing of these.
        before: dict[str, Any] = {"model": None, "noise": 0.0, "pixels": False, "expert_kwargs": []}
        there = {**before, **older["settings"], "steps": settings.steps}
        differing = sorted(k for k in there.keys() | asked.keys() if there.get(k) != asked.get(k))
        if older.get("weights", weights) != weights:
            differing.append("weights of the model")
        if differing:
            raise ValueError(
                f"{out}: holds data of other settings (different: {', '.join(differing)}); choose a new folder"
            )
    checked = [_check(env_id, settings) for env_id in settings.env_ids]  # a mistake shows before anything is written
    found = checked[-1]
    if any(of.centred != found.centred for of in checked):
        raise ValueError(
            f"env_ids: expected action bounds that are all the same in both directions, or none, got"
            f" {', '.join(settings.env_ids)}; collect them apart"
        )
    missing = [(settings, out, i) for i in range(settings.shards) if not (out / shard_name(i)).is_dir()]
    check_room(out, len(missing) * settings.shard_steps * found.frame_bytes)
    if older is not None and bool(older.get("centred_actions")) != found.centred:
        raise ValueError(
            f"{out}: expected actions told from the middle of their bounds, as they are recorded now, got older data;"
            " choose a new folder"
        )
    further = {} if weights is None else {"weights": weights}
    meta = described(
        asked,
        goal_size=found.goal_size,
        shows_goals=all(of.shows_goal for of in checked),
        centred_actions=found.centred,
        **further,
    )
    with locked(out):
        remove_unfinished(out)
        write_json(out / META_NAME, meta)
        workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
        written = (
            itertools.starmap(write_shard, missing)
            if workers == 1
            else in_processes(write_shard, missing, workers, str(out))
        )
        try:
            for done, _ in enumerate(itertools.chain([None], written), settings.shards - len(missing)):
                if on_shard:
                    on_shard(done, settings.shards)
        finally:
            remove_unfinished(out)
    return out


def write_shard(settings: CollectSettings, out: Path, shard: int) -> None:
    """Collect the episodes of one shard and write it whole."""
    env_id = settings.env_ids[shard % len(settings.env_ids)]
    recordings: list[_Recording] = []
    missing = settings.shard_steps
    with ExitStack() as stack:
        # Planning for many episodes takes little more time than for one; nobody else gains by it.
        slots = min(PLANNED_TOGETHER, _fewest(missing, settings)) if settings.policy == "planner" else 1
        envs = [stack.enter_context(closing(_open(env_id, settings))) for _ in range(slots)]
        policy, code = _policy(env_id, settings, envs[0]), ActionCode.for_data(envs[0].action_space)
        if settings.policy == "planner":
            stack.enter_context(one_thread())  # every core has a worker of its own
        while missing > 0:
            # No more episodes than are needed whatever their length: what is recorded is the first ones.
            numbers = range(len(recordings), len(recordings) + _fewest(missing, settings))
            recordings += [_Recording(code) for _ in numbers]
            episodes = [_episode(settings, shard, number) for number in numbers]
            for step in play(policy, envs, episodes, step_limit=settings.episode_length):
                recordings[step.episode.index].add(step, task_for(env_id))
            missing = settings.shard_steps - sum(len(recording.frames) - 1 for recording in recordings)

    frames = np.stack([frame for recording in recordings for frame in recording.frames])
    arrays = {
        "frames" if frames.dtype == np.uint8 else "vectors": frames,
        "actions": np.stack([action for recording in recordings for action in recording.actions]),
        "rewards": np.array([reward for recording in recordings for reward in recording.rewards], dtype=np.float32),
        "terminated": np.array([ended for recording in recordings for ended in recording.terminated]),
        "lengths": np.array([len(recording.frames) for recording in recordings], dtype=np.int64),
    }
    if beside := [numbers for recording in recordings for numbers in recording.proprio]:
        arrays["proprio"] = np.stack(beside)
    if states := [state for recording in recordings for state in recording.states]:
        arrays["states"] = np.stack(states)
    write_shard_files(out / shard_name(shard), arrays)


class _Recording:
    """An episode as it is written. Of every step: what was observed, the action taken there and its reward (zeros at
    the end), whether the episode ended there, and, where the environment tells them, numbers beside the picture and the
    simulator's state."""

    def __init__(self, code: ActionCode) -> None:
        self.code = code
        self.frames: list[NDArray[Any]] = []
        self.actions: list[NDArray[np.float32]] = []
        self.rewards: list[float] = []
        self.terminated: list[bool] = []
        self.proprio: list[NDArray[np.float32]] = []
        self.states: list[NDArray[np.float64]] = []

    def add(self, step: TimeStep, task: Task) -> None:
        self.frames.append(_observed(step.observation, task))
        key = proprio_key(step.observation)
        if key is not None and self.frames[-1].ndim == 3:  # among vectors they are part of the vector
            self.proprio.append(np.asarray(step.observation[key], dtype=np.float32).reshape(-1))
        self.terminated.append(step.terminated)
        if step.action is not None:
            self.actions.append(self.code.read(np.asarray(step.action)[None])[0])
            self.rewards.append(step.reward)
        if step.last:
            self.actions.append(np.zeros_like(self.actions[-1]))
            self.rewards.append(0.0)
        inner: Any = step.env.unwrapped
        if hasattr(inner, "get_state"):
            self.states.append(np.asarray(inner.get_state(), dtype=np.float64))


def _observed(observation: Any, task: Task) -> NDArray[Any]:
    """The picture in an observation, uint8, or the numbers of one without, float32."""
    if isinstance(observation, Mapping) and task.picture_key not in observation:
        return vector_in(observation)[0].astype(np.float32)
    picture = np.asarray(task.picture(observation))
    return picture if picture.ndim == 3 else picture.astype(np.float32)


def _fewest(steps: int, settings: CollectSettings) -> int:
    """The fewest episodes that can hold so many steps."""
    return -(-steps // settings.episode_length)


def _episode(settings: CollectSettings, shard: int, number: int) -> Episode:
    draws = np.random.SeedSequence([settings.seed, shard, number]).generate_state(2)
    return Episode(number, SEED_OFFSET + int(draws[0]) % SEED_OFFSET, int(draws[1]))


# ---- environments and policies ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _World:
    """What is recorded of an environment.

    Attributes:
        goal_size: of its vectors, see `goal_part`.
        shows_goal: whether it shows one.
        frame_bytes: of a picture; 0 where none is recorded.
        centred: whether actions are recorded from the middle of their bounds (see `ActionCode`).
    """

    goal_size: int
    shows_goal: bool
    frame_bytes: int
    centred: bool


def _check(env_id: str, settings: CollectSettings) -> _World:
    """What is recorded of an environment; an error is raised if the settings do not suit it."""
    with closing(make_env(env_id, **dict(settings.env_kwargs))) as env:
        centred = ActionCode.for_data(env.action_space).centred
        if settings.policy == "expert":
            options = dict(settings.expert_kwargs)
            expert_env = check_expert(env, **options)
            if options:
                # Made once, so that their values are checked before anything is written.
                expert_env.make_expert(settings.seed, **options)
    with closing(_open(env_id, settings)) as env:
        goal = task_for(env_id).goal(*env.reset(seed=SEED_OFFSET))  # rendering may fail
        if settings.policy == "planner":
            _planner(env_id, settings, env)
        space = env.observation_space
        pictures = 0 if image_side(space) is None else settings.resolution**2 * 3
        goal_size = goal_part(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else 0
        return _World(goal_size, goal is not None, pictures, centred)


def _open(env_id: str, settings: CollectSettings) -> gymnasium.Env[Any, Any]:
    """The environment with pictures as observations, or among them; else with vectors; else rendered."""
    task, shape = task_for(env_id), (settings.resolution, settings.resolution, 3)

    def shows_frames(env: gymnasium.Env[Any, Any]) -> bool:
        space = env.observation_space
        part = space.spaces.get(task.picture_key) if isinstance(space, gymnasium.spaces.Dict) else space
        return isinstance(part, gymnasium.spaces.Box) and part.shape == shape and part.dtype == np.uint8

    given = dict(settings.env_kwargs)
    asked_otherwise = any(given.get(key, value) != value for key, value in task.pictures(settings.resolution).items())
    # Of a known task that shows pictures, vectors are recorded only if the arguments ask for them.
    vectors_will_do = not settings.pixels and (task.rendered or asked_otherwise)

    def suits(env: gymnasium.Env[Any, Any]) -> bool:
        return shows_frames(env) or (vectors_will_do and shows_vectors(env.observation_space))

    needs = f"uint8 frames of shape {shape}, as observation or under its key {task.picture_key!r}"
    needs += ", or vectors" if vectors_will_do else ", or rendered" if task.rendered else ""
    needs += " (another resolution, or a wrapped environment, may have them)"
    wishes = [
        {key: value for key, value in wish.items() if key not in given}  # what is asked for is no wish's to change
        for wish in task.picture_wishes(settings.resolution)
    ]
    return open_env(env_id, given, wishes, suits, needs)[0]


def _policy(env_id: str, settings: CollectSettings, env: gymnasium.Env[Any, Any]) -> VectorPolicy:
    if settings.policy == "expert":
        return expert_policy(**dict(settings.expert_kwargs))
    if settings.policy == "random":
        return random_policy()
    agent, task = _planner(env_id, settings, env), task_for(env_id)
    if settings.noise == 0:
        return AgentPolicy(agent, task)
    space = box_actions("noise", env)
    return AgentPolicy(
        agent,
        task,
        noise=lambda episode: _smooth_noise(np.random.default_rng(episode.policy_seed), space, settings.noise),
    )


def _planner(env_id: str, settings: CollectSettings, env: gymnasium.Env[Any, Any]) -> GRASPAgent:
    model = load_world_model(str(settings.model))
    side = image_size_of(model)
    if (side is None) != (image_side(env.observation_space) is None):
        kinds = ("vectors", "pictures")
        raise ValueError(
            f"{env_id}: expected {kinds[side is not None]}, which the world model {settings.model!r} reads, got"
            f" {kinds[side is None]}{'; try --pixels' * (side is not None)}"
        )
    if side is not None and side != settings.resolution:
        raise ValueError(
            f"resolution: expected {side} px, which the world model {settings.model!r} sees, got {settings.resolution}"
        )
    observation, info = env.reset(seed=SEED_OFFSET)
    if (numbers := proprio_dim_of(model)) and proprio_key(observation) is None:
        raise ValueError(
            f"{env_id}: expected {numbers} numbers under {' or '.join(map(repr, PROPRIO_KEYS))} beside the picture,"
            f" which the world model {settings.model!r} reads, got none; try an argument of the environment that shows"
            " both"
        )
    shows_goal = task_for(env_id).goal(observation, info) is not None
    objective = objective_for(env_id, model, shows_goal)
    if not shows_goal and objective is None:
        raise ValueError(
            f"{env_id}: policy 'planner' expected a goal in observation or info, or a world model that foresees"
            " rewards, got neither"
        )
    planner = PLANNER if objective is None or needs_goal(objective) else GRASP.for_model(model, objective)
    return GRASPAgent(model, env.action_space, planner, objective=objective)


def _smooth_noise(
    generator: np.random.Generator, space: gymnasium.spaces.Box, scale: float
) -> Iterator[NDArray[np.float64]]:
    """Exploration noise, an array of the action's shape per step: in environment units, correlated over five steps."""
    keep = 0.8
    noise = generator.normal(size=space.shape)
    while True:
        yield scale * noise * (space.high - space.low) / 2
        noise = keep * noise + (1 - keep**2) ** 0.5 * generator.normal(size=space.shape)
