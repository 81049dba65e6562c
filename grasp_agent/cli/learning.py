"""From environments to a world model: `grasp-agent collect` and `grasp-agent train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from grasp_agent.cli.options import (
    CLASSIC_ENV,
    ENV,
    MaybeInt,
    MaybeStr,
    Paths,
    Words,
    check_device,
    console,
    say,
    set_threads,
)
from grasp_agent.files.progress import progress_bars


def collect(
    out: Path,
    env: Words = (),
    steps: int = 300_000,
    episode_length: int = 100,
    resolution: int = 64,
    policy: str = "expert",
    model: MaybeStr = None,
    noise: float = 0.0,
    goal_horizon: MaybeInt = None,
    seed: int = 0,
    workers: MaybeInt = None,
) -> None:
    """Collect episodes for training a world model; a stopped run goes on where it was.

    With more --steps the same command adds to the data. In use:
        grasp-agent collect --out runs/data
        grasp-agent collect --out runs/data --steps 500000

    Args:
        out: data folder to write.
        env: environment id; several take turns. Default: the two Push-T tasks.
        steps: environment steps in all, rounded up to shards of 5000 (60 MB each with 64 px frames).
        episode_length: steps of an episode, unless it ends before.
        resolution: height and width of the frames; the recipes of `grasp-agent train` read 64.
        policy: "expert" (the environment's scripted expert), "random", or "planner": GRASP with --model, so that a
            model can learn from what its planner gets into.
        model: world model of policy "planner". Default: the shipped "pusht".
        noise: deviation of what is added to the planner's actions, in half-ranges of the action; 0.15 explores.
        goal_horizon: expert steps to the goal (PushTReach). Default: the environment's 25.
        seed: same seed, same data, whatever the number of workers.
        workers: processes that collect. Default: one per core.
    """
    from grasp_agent.data import CollectSettings
    from grasp_agent.data import collect as run

    settings = CollectSettings(
        env_ids=env or (ENV, CLASSIC_ENV),
        steps=steps,
        env_kwargs=() if goal_horizon is None else (("goal_horizon", goal_horizon),),
        policy=policy,
        model=model or ("pusht" if policy == "planner" else None),
        noise=noise,
        episode_length=episode_length,
        resolution=resolution,
        seed=seed,
    )
    with progress_bars(console) as show:
        run(settings, out, workers, lambda done, total: show("collect", done, total, "shards"))
    say(f"{settings.shards} shard{'s' * (settings.shards > 1)} in {out}")
    say(f"next: grasp-agent train --data {out} --out runs/train")


def train(
    data: Paths,
    out: Path,
    recipe: str = "pusht",
    initial: MaybeStr = None,
    encoder_steps: MaybeInt = None,
    dynamics_steps: MaybeInt = None,
    proposal_steps: MaybeInt = None,
    backbone: str = "facebook/dinov2-small",
    seed: int = 0,
    device: str = "cpu",
    threads: MaybeInt = None,
) -> None:
    """Train a world model on collected episodes; a stopped run goes on from its last checkpoint.

    Writes OUT/model (what --model takes), OUT/metrics.json (prediction errors on held-out episodes), OUT/rollouts.png
    (predicted frames under real ones) and OUT/curves.png. In use:
        grasp-agent train --data runs/data --out runs/train
        grasp-agent evaluate --model runs/train/model
        grasp-agent train --data runs/data --data runs/planned --initial runs/train/model --out runs/tuned

    Args:
        data: folder written by `grasp-agent collect`; repeat it to train on several, the metrics are of the first.
        out: output folder; the model is in OUT/model.
        recipe: "pusht" (pose latents, for planar pushing), "generic" (free latents from reconstruction), "joint" (free
            latents from prediction, encoder and dynamics together) or "dino_wm" (patches of a frozen DINOv2; without
            OUT/rollouts.png).
        initial: model to begin from (a shipped name, a folder or a hub id). Default: random weights.
        encoder_steps: optimiser steps of stage 1, the encoder (recipe "joint": and the dynamics). Default: the
            recipe's.
        dynamics_steps: optimiser steps of stage 2, the dynamics. Default: the recipe's.
        proposal_steps: optimiser steps of stage 3, the plan proposals. Default: the recipe's.
        backbone: DINOv2 of recipe "dino_wm", a folder or a hub id.
        seed: of initial weights and batches.
        device: "cpu" or "cuda".
        threads: CPU threads. Default: PyTorch's choice.
    """
    from grasp_agent.data import EpisodeDataset
    from grasp_agent.training import RECIPES, dino_wm_recipe, train_dino_wm
    from grasp_agent.training import train as run
    from grasp_agent.training.report import metrics_table, probes_sentence

    if recipe not in (*RECIPES, "dino_wm"):
        raise ValueError(f"--recipe: expected one of {', '.join(sorted([*RECIPES, 'dino_wm']))}, got {recipe!r}")
    check_device(device)
    set_threads(threads)
    episodes = EpisodeDataset(*data)
    with progress_bars(console) as show:

        def on_log(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
            show(stage, step, steps, f"loss {terms['loss']:.4g}")

        if recipe == "dino_wm":
            if (initial, encoder_steps, proposal_steps) != (None, None, None):
                raise ValueError("--recipe dino_wm: expected no other option of the stages than --dynamics-steps")
            patches = replace(dino_wm_recipe(episodes, backbone), seed=seed)
            if dynamics_steps is not None:
                patches = replace(patches, predictor=replace(patches.predictor, steps=dynamics_steps))
            metrics = train_dino_wm(episodes, patches, out, device, on_log, say)
        else:
            chosen = replace(RECIPES[recipe](), seed=seed)
            if encoder_steps is not None:
                chosen = replace(chosen, encoder=replace(chosen.encoder, steps=encoder_steps))
            if dynamics_steps is not None:
                chosen = replace(chosen, dynamics=replace(chosen.dynamics, steps=dynamics_steps))
            if proposal_steps is not None:
                chosen = replace(chosen, proposal=replace(chosen.proposal, steps=proposal_steps))
            metrics = run(episodes, chosen, out, device, initial, on_log, say)
    console.print(metrics_table(metrics))
    if known := probes_sentence(metrics):
        say(known)
    say(f"model in {out / 'model'}")
    say(f"next: grasp-agent evaluate --model {out / 'model'}")
