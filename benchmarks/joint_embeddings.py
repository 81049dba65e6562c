"""Train high-dimensional latents from pixels and actions alone, in three worlds, on one GPU.

    python benchmarks/joint_embeddings.py --out runs/joint_embeddings --device cuda --minutes 4

1. data: episodes of each world, by `grasp-agent collect`.
2. models: every variant below, all at once. Wall and the U-maze take a fixed number of steps. The variants of Push-T
   take the given minutes of stage 1 each. How many steps that are is measured first, so it depends on the machine; the
   model's card says it. A run that was stopped goes on with the steps that it began with.
3. a table: what probes read of the pose, at once and after prediction. Simulator states serve this alone.

Weights are stored in half precision. A model that is there already can be taught how many steps lie between states, or
its dynamics be trained anew; its encoder stays as it is:

    python benchmarks/joint_embeddings.py --out runs/distances --device cpu --variant wall_vector --initial wall-vector
    python benchmarks/joint_embeddings.py --out runs/dynamics --device cpu --variant conv_grid --initial pusht-grid \
        --learn dynamics

Sizes: `vit_vector` is LeWorldModel's (ViT-tiny, 192 numbers; arXiv 2603.19312), `vit_grid` DINO-WM's (14 x 14 cells;
arXiv 2411.04983), both on frames of 64 pixels. Wall and the U-maze need smaller encoders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from grasp_agent.data import EpisodeDataset
from grasp_agent.files.atomic import write_json
from grasp_agent.models.io import stamp
from grasp_agent.training import RECIPES, JointRecipe, train
from grasp_agent.training.joint import JointTask, JointWeights
from grasp_agent.training.loop import run_stage

REACH = "grasp_envs:grasp_envs/PushTReach-v0"
DATA: dict[str, dict[str, list[str]]] = {
    "pusht": {
        "expert": ["--env", REACH, "--goal-horizon", "50", "--policy", "expert", "--steps", "400000"],
        "random": ["--env", REACH, "--goal-horizon", "50", "--policy", "random", "--steps", "40000"],
    },
    "wall": {"wall": ["--env", "grasp_envs:grasp_envs/Wall-v0", "--seed", "1", "--steps", "150000"]},
    "umaze": {
        "umaze": [
            *("--env", "grasp_envs:grasp_envs/PointMaze-v0", "--env-arg", "goals=any", "--seed", "1"),
            *("--steps", "150000"),
        ]
    },
}
"""Arguments of `grasp-agent collect`, by world and folder."""

PREDICTED = JointWeights()
DRAWN = replace(PREDICTED, sigreg=0.0, reconstruction=1.0, noise=0.1)
GRID = JointWeights(sigreg=0.0, inverse=1.0, straightening=0.1, reconstruction=1.0, noise=0.1)


@dataclass(frozen=True)
class Variant:
    """One model to train.

    Attributes:
        world: whose data it learns from.
        weights: of the loss's terms.
        model: sizes that differ from the recipe's; with "grid" among them it is a grid of cells, else a vector.
        steps: of stage 1; None means as many as fit into the minutes that are given.
        learning_rate: of stage 1.
        unroll: model steps that the dynamics is rolled out in stage 1.
        later: what differs from the recipe in stage 2, the dynamics alone; its "steps" and "batch" are the schedule's.
        goes_on: whether it only goes on from a model that another script made, and learns nothing from the beginning.
    """

    world: str
    weights: JointWeights
    model: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    learning_rate: float = 1e-3
    unroll: int = 3
    later: dict[str, Any] = field(default_factory=dict)
    goes_on: bool = False

    def recipe(self, data: EpisodeDataset, windows: int) -> JointRecipe:
        """The recipe, with the recipe's own steps of stage 1 where they are to be measured.

        Args:
            data: the episodes.
            windows: per step of stage 1.
        """
        grid = "grid" in self.model
        recipe = RECIPES["joint_grid" if grid else "joint"](data)
        assert isinstance(recipe, JointRecipe)
        first = replace(recipe.encoder, batch=windows, learning_rate=self.learning_rate)
        later = {**({"steps": 2_500, "batch": 128} if grid else {"steps": 5_000, "batch": 512}), **self.later}
        dynamics = replace(recipe.dynamics, steps=later.pop("steps"), batch=later.pop("batch"))
        return replace(
            recipe,
            weights=self.weights,
            model=replace(recipe.model, **self.model),
            encoder=replace(first, steps=self.steps or first.steps),
            dynamics=dynamics,
            proposal=replace(recipe.proposal, steps=3_000),
            joint_unroll=self.unroll,
            **later,
        )


ENOUGH = 2_000
"""Steps of stage 1 that are enough for a dot or a ball."""

SMALL: dict[str, Any] = {"encoder_width": 16}
CELLS: dict[str, Any] = {**SMALL, "grid": 4, "patch": 16, "state_size": 32}
MAZE: dict[str, Any] = {"action_block": 2}
VIT: dict[str, Any] = {"encoder": "vit", "encoder_width": 192, "encoder_depth": 12, "encoder_heads": 3}
FINE: dict[str, Any] = {"grid": 14, "patch": 4, "state_size": 16, "dynamics_hidden": 96}
MIXED: dict[str, Any] = {"dynamics_mixing": 512}
HEAD: dict[str, Any] = {"head_channels": 64, "proposal_hidden": 0, "look_ahead": 20}
STEPWISE: dict[str, Any] = {"action_block": 1, "dynamics_hidden": 512, "dynamics_blocks": 3}
LONGER: dict[str, Any] = {"steps": 9_000, "batch": 96, "unroll": 4, "whitened": 1.0}

VARIANTS = {
    "wall_vector": Variant("wall", PREDICTED, SMALL, ENOUGH),
    "wall_grid": Variant("wall", GRID, CELLS, ENOUGH),
    "umaze_vector": Variant("umaze", DRAWN, {**SMALL, **MAZE}, ENOUGH),
    "umaze_grid": Variant("umaze", GRID, {**CELLS, **MAZE}, ENOUGH),
    "vit_vector": Variant("pusht", DRAWN, {**VIT, "state_size": 192, "dynamics_hidden": 768}, learning_rate=5e-4),
    "vit_grid": Variant("pusht", GRID, {**VIT, **FINE}, learning_rate=5e-4),
    "conv_vector": Variant("pusht", DRAWN, {**HEAD, **STEPWISE}, later={"steps": 12_000, "batch": 256}, goes_on=True),
    "conv_grid": Variant("pusht", replace(GRID, inverse=0.3), {"grid": 8, **MIXED}, unroll=2, later=LONGER),
}
"""What is trained, by name."""


def seconds_of_a_step(recipe: JointRecipe, data: EpisodeDataset, device: str, steps: int) -> float:
    """Median seconds of an optimiser step of stage 1, on a model that is thrown away."""
    training, held_out = data.split(recipe.held_out)
    model = recipe.build(data, training, held_out).to(device)
    task = JointTask(model, data, training, recipe.encoder.batch, recipe.weights, recipe.joint_unroll)
    ends: list[float] = []
    stage = replace(recipe.encoder, name="timing", steps=steps, log_every=1)
    with tempfile.TemporaryDirectory() as folder:
        run_stage(stage, task, Path(folder), 0, lambda *_: ends.append(time.perf_counter()), device != "cpu")
    return float(np.median(np.diff(ends)[steps // 2 :]))


def halve(folder: Path) -> None:
    """Store a model's weights in half precision, but for running statistics, whose numbers can be too large for it."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name, x in weights.items():
        if x.is_floating_point() and ".running_" not in name:
            weights[name] = x.half()
    save_file(weights, path, metadata={"format": "pt"})
    stamp(folder)


def collect(out: Path, worlds: set[str], share: float) -> None:
    """The data folders of some worlds, made if need be."""
    for world in sorted(worlds):
        for folder, settings in DATA[world].items():
            steps = str(round(share * int(settings[-1])))
            command = ["collect", *settings[:-1], steps, "--out", str(out / folder)]
            subprocess.run([sys.executable, "-m", "grasp_agent.cli", *command], check=True)


def train_one(name: str, arguments: argparse.Namespace) -> None:
    """Train one variant; its folder then holds `model` in half precision and `metrics.json`."""
    variant = VARIANTS[name]
    data = EpisodeDataset(*(arguments.out / folder for folder in DATA[variant.world]))
    recipe = variant.recipe(data, arguments.windows)
    begun = arguments.out / f"{name}.json"
    if not begun.is_file():
        steps = round(arguments.share * (arguments.steps or recipe.encoder.steps))
        if variant.steps is None and arguments.steps is None and not arguments.initial:
            each = seconds_of_a_step(recipe, data, arguments.device, arguments.timed)
            steps = round(60 * arguments.minutes / each)
            print(f"{name}: {1000 * each:.1f} ms a step, {steps} steps", flush=True)
        write_json(begun, {"steps": max(1, steps)})
    # A model to begin from learns one thing; any other learns everything.
    steps, share = json.loads(begun.read_text())["steps"], arguments.share
    if arguments.initial:
        steps = 0
        if arguments.learn == "distances":
            share = 0
            recipe = replace(recipe, detours=True)
    recipe = replace(
        recipe,
        encoder=replace(recipe.encoder, steps=steps),
        dynamics=replace(recipe.dynamics, steps=round(share * recipe.dynamics.steps)),
        proposal=replace(recipe.proposal, steps=round(share * recipe.proposal.steps)),
    )
    began = time.perf_counter()

    def say(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
        if step % (5 * recipe.encoder.log_every) == 0 or step == steps:
            shown = "  ".join(f"{k} {v:.4f}" for k, v in terms.items())
            print(f"{name} {time.perf_counter() - began:.0f}s {stage} {step}/{steps}  {shown}", flush=True)

    train(data, recipe, arguments.out / name, arguments.device, arguments.initial, on_log=say)
    halve(arguments.out / name / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4.0, help="of stage 1, for every variant of Push-T")
    parser.add_argument("--steps", type=int, help="of stage 1. Default: 2,000 for Wall and maze, else by --minutes")
    parser.add_argument("--windows", type=int, default=64, help="of frames, per step of stage 1")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, per model")
    parser.add_argument("--initial", help="a model of the variant's sizes, whose encoder is kept")
    parser.add_argument(
        "--learn", choices=("distances", "dynamics"), default="distances", help="what the model of --initial learns"
    )
    parser.add_argument(
        "--variant", action="append", choices=VARIANTS, help="name; repeat it. Default: all that need no --initial"
    )
    parser.add_argument("--timed", type=int, default=60, help="steps that the speed is measured on")
    parser.add_argument("--share", type=float, default=1.0, help="of the data and of the fixed steps, to try it out")
    parser.add_argument("--alone", action="store_true", help="train in this process, on data that are there")
    arguments = parser.parse_args()
    if arguments.learn == "dynamics" and not arguments.initial:
        parser.error("--learn dynamics: expected a model to begin from, got none; try --initial pusht-grid")
    names = arguments.variant or [name for name, variant in VARIANTS.items() if not variant.goes_on]
    if not arguments.initial and any(VARIANTS[name].goes_on for name in names):
        parser.error(
            "--variant: conv_vector goes on from a model of vector_head.py; try --initial runs/vector/head/model"
        )
    if arguments.alone:
        torch.set_num_threads(arguments.threads)
        torch.set_float32_matmul_precision("high")
        train_one(names[-1], arguments)
        return
    collect(arguments.out, {VARIANTS[name].world for name in names}, arguments.share)
    running = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--alone", "--variant", name]) for name in names
    ]
    codes = [process.wait() for process in running]
    for name, code in zip(names, codes, strict=True):
        path = arguments.out / name / "metrics.json"
        if code or not path.is_file():
            print(f"{name}: failed")
            continue
        metrics = json.loads(path.read_text())
        probes = {k: [v["median"] for v in errors.values()] for k, errors in metrics.get("probes", {}).items()}
        ahead = {k: [v["median"] for v in errors.values()] for k, errors in metrics.get("errors_by_step", {}).items()}
        print(
            f"{name}: probes {probes}\n  after prediction {ahead}\n  latent {metrics['relative_latent_error_by_step']}"
        )


if __name__ == "__main__":
    main()
