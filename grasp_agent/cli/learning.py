"""From environments, or from data that are there, to a world model: `grasp-agent collect`, `convert` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grasp_agent.cli.options import (
    ENVS,
    Bounds,
    MaybeInt,
    MaybeStr,
    MaybeYes,
    Paths,
    Words,
    check_device,
    console,
    env_arguments,
    env_options,
    named_values,
    say,
    set_threads,
)
from grasp_agent.files.progress import progress_bars
from grasp_agent.tasks import DEFAULT_TASK, task_for

MOST_STEPS = 10**10
"""That are collected, 2 million shards."""


def collect(
    out: Path,
    env: Words = (),
    steps: int = 300_000,
    episode_length: int = 100,
    resolution: int = 64,
    pixels: bool = False,
    policy: str = "expert",
    expert_arg: Words = (),
    model: MaybeStr = None,
    noise: float = 0.0,
    goal_horizon: MaybeInt = None,
    env_arg: Words = (),
    seed: int = 0,
    workers: MaybeInt = None,
) -> None:
    """Collect episodes for training a world model; a stopped run goes on where it was.

    With more --steps the same command adds to the data. In use:
        grasp-agent collect --out runs/data
        grasp-agent collect --out runs/data --steps 500000

    Args:
        out: data folder to write.
        env: environment id; several take turns. Default: the environments of the default task.
        steps: environment steps in all, rounded up to shards of 5000 (60 MB each with 64 px frames).
        episode_length: steps of an episode, unless it ends before.
        resolution: height and width of the frames; the recipes of `grasp-agent train` read 64.
        pixels: record what the environment renders, if its observations hold no picture. Without, vectors are recorded.
        policy: "expert" (the environment's scripted expert), "random", or "planner": GRASP with --model, so that a
            model can learn from what its planner gets into.
        expert_arg: an argument of the expert, NAME=VALUE. That of the default task takes leaning=0.3: in 3 of 10 pushes
            it stops and leans against the block, and teaches a model what happens then.
        model: world model of policy "planner". Default: what ships for the environment.
        noise: deviation of what is added to the planner's actions, in half-ranges of the action; 0.15 explores.
        goal_horizon: expert steps to the goal in goal-reaching environments. Default: the environment's own.
        env_arg: an argument of the environments, NAME=VALUE, as in obs_type=pixels.
        seed: same seed, same data, whatever the number of workers.
        workers: processes that collect. Default: one per core.
    """
    from grasp_agent.data import CollectSettings
    from grasp_agent.data import collect as run

    if steps > MOST_STEPS:
        raise ValueError(f"--steps: expected at most {MOST_STEPS}, got {steps}")
    env_kwargs = env_arguments(env_arg)
    for env_id in env or ENVS:
        env_kwargs |= task_for(env_id).goals_at(env_id, goal_horizon)
    settings = CollectSettings(
        env_ids=env or ENVS,
        steps=steps,
        env_kwargs=tuple(env_kwargs.items()),
        policy=policy,
        expert_kwargs=tuple(named_values("--expert-arg", expert_arg, "leaning=0.3").items()),
        model=model or (task_for((env or ENVS)[0]).model_for(env_kwargs) if policy == "planner" else None),
        noise=noise,
        episode_length=episode_length,
        resolution=resolution,
        pixels=pixels,
        seed=seed,
    )
    with progress_bars(console) as show:
        run(settings, out, workers, lambda done, total: show("collect", done, total, "shards"))
    say(f"{settings.shards} shard{'s' * (settings.shards > 1)} in {out}")
    say(f"next: grasp-agent train --data {out} --out runs/train")


def convert(
    data: str,
    out: str,
    resolution: MaybeInt = None,
    picture_key: MaybeStr = None,
    env: MaybeStr = None,
    env_arg: Words = (),
    action_bounds: Bounds = (),
    download: bool = False,
) -> None:
    """Make a data set of another program a data folder, or a data folder a Minari data set.

    A stopped run goes on where it was. Simulator states are left out. In use:
        grasp-agent convert --data minari:D4RL/pointmaze/umaze-v2 --out runs/data --download
        grasp-agent convert --data lerobot:recordings/arm --out runs/data --action-bounds -1 1
        grasp-agent convert --data runs/data --out minari:mine/data-v0

    Args:
        data: "minari:NAME" (a Minari data set that is installed here), "lerobot:FOLDER" (a LeRobot data set of version
            3) or a data folder.
        out: data folder to write, or "minari:NAME" for a new Minari data set.
        resolution: height and width of the recorded pictures, which are averaged down and get black bars where they
            are not square. Default: 64, which the recipes of `grasp-agent train` read.
        picture_key: where in an observation the picture is, if there are several.
        env: id of the environment that the data are from, where they do not say it. It tells the bounds of the actions,
            and what `grasp-agent train` should do by default.
        env_arg: an argument of that environment, NAME=VALUE.
        action_bounds: the least and the largest value of all numbers of an action, or of each in turn, where neither
            data nor environment tell.
        download: fetch the Minari data set if it is not installed.
    """
    from grasp_agent.data import convert as run

    with progress_bars(console) as show:
        run(
            data,
            out,
            resolution=resolution,
            picture_key=picture_key,
            env_id=env,
            env_kwargs=env_arguments(env_arg),
            action_bounds=action_bounds,
            download=download,
            on_part=lambda done, total: show("convert", done, total, "shards"),
        )
    say(f"episodes in {out}")
    if not out.startswith("minari:"):
        say(f"next: grasp-agent train --data {out} --out runs/train")


def train(
    data: Paths,
    out: Path,
    recipe: MaybeStr = None,
    initial: MaybeStr = None,
    encoder_steps: MaybeInt = None,
    dynamics_steps: MaybeInt = None,
    proposal_steps: MaybeInt = None,
    outcomes_steps: MaybeInt = None,
    distance_steps: MaybeInt = None,
    detours: MaybeYes = None,
    rewards: MaybeYes = None,
    backbone: MaybeStr = None,
    seed: int = 0,
    device: str = "cpu",
    threads: MaybeInt = None,
    tensorboard: bool = False,
) -> None:
    """Train a world model on collected episodes; a stopped run goes on from its last checkpoint.

    Writes OUT/model (what --model takes), OUT/metrics.json (prediction errors on held-out episodes), OUT/rollouts.png
    (predicted frames under real ones) and OUT/curves.png. In use:
        grasp-agent train --data runs/data --out runs/train
        grasp-agent evaluate --model runs/train/model
        grasp-agent train --data runs/data --data runs/more --initial runs/train/model --encoder-steps 0 --out runs/on

    Args:
        data: folder written by `grasp-agent collect`; repeat it to train on several, the metrics are of the first.
        out: output folder; the model is in OUT/model.
        recipe: "pose" (poses from the simulator's state, supervised), "generic" (free latents from reconstruction),
            "sprites" (poses of a few moving things, from pixels alone), "vector" (observations that are vectors, and
            rewards), "joint" (a vector learnt by predicting it, encoder and dynamics together), "joint_grid" (a grid of
            cells, learnt by drawing and predicting it) or "dino_wm" (patches of a frozen DINOv2; without
            OUT/rollouts.png). Default: what suits the task of the data, "vector" where they hold vectors.
        initial: model to begin from (a shipped name, a folder or a hub id). With 0 steps a part stays as it is there.
            Default: random weights.
        encoder_steps: optimiser steps of stage 1, the encoder (recipes "joint" and "joint_grid": and the dynamics).
            Default: the recipe's.
        dynamics_steps: optimiser steps of the dynamics. Default: the recipe's.
        proposal_steps: optimiser steps of the plan proposals. Default: the recipe's.
        outcomes_steps: optimiser steps of what foresees rewards. Default: the recipe's.
        distance_steps: optimiser steps of the distances in steps (--detours). Default: the recipe's.
        detours: learn how many steps lie between states, and judge plans by it: for worlds in which the straight way to
            a goal is often none. For recipes "sprites", "vector", "joint" and "joint_grid". Default: what suits the
            task of the data; yes for mazes.
        rewards: learn what steps earn, and judge plans by it where there is no goal. For the same recipes. Default: yes
            for vectors, and where the environment shows no goal.
        backbone: DINOv2 of recipe "dino_wm", a folder or a hub id. Default: facebook/dinov2-small.
        seed: of initial weights and batches.
        device: "cpu" or "cuda".
        threads: CPU threads. Default: PyTorch's choice.
        tensorboard: write the losses for TensorBoard, too, into OUT/tensorboard.
    """
    from grasp_agent.data import EpisodeDataset
    from grasp_agent.models.trust import trust_sentence
    from grasp_agent.training import make_recipe, task_of
    from grasp_agent.training import train as run
    from grasp_agent.training.distance import distance_sentence
    from grasp_agent.training.report import metrics_table, probes_sentence

    check_device(device)
    set_threads(threads)
    episodes = EpisodeDataset(*data)
    steps = {
        "encoder": encoder_steps,
        "dynamics": dynamics_steps,
        "proposal": proposal_steps,
        "outcomes": outcomes_steps,
        "distance": distance_steps,
    }
    told = {"backbone": backbone, "detours": _yes(detours), "rewards": _yes(rewards)}
    chosen = make_recipe(
        recipe or ("vector" if episodes.vectors is not None else task_of(episodes).recipe),
        episodes,
        {stage: count for stage, count in steps.items() if count is not None},
        seed=seed,
        **{name: value for name, value in told.items() if value is not None},
    )
    with progress_bars(console) as show:

        def on_log(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
            show(stage, step, steps, f"loss {terms['loss']:.4g}")

        metrics = run(episodes, chosen, out, device, initial, on_log, say, tensorboard)
    console.print(metrics_table(metrics))
    for sentence in (probes_sentence(metrics), trust_sentence(metrics), distance_sentence(metrics)):
        if sentence:
            say(sentence)
    say(f"model in {out / 'model'}")
    say(f"next: grasp-agent evaluate{_world_of(episodes.settings[0])} --model {out / 'model'}")


def _yes(told: str | None) -> bool | None:
    return None if told is None else told == "yes"


def _world_of(settings: Mapping[str, Any]) -> str:
    """The options of a command that name the environment which data are from; none where it is the default one's task.

    Args:
        settings: how a data folder was collected.
    """
    names = settings.get("env_ids", ())
    if not names or task_for(names[0]) is DEFAULT_TASK:
        return ""
    return f" --env {names[0]}{env_options(dict(settings.get('env_kwargs', ())))}"
