"""Train high-dimensional latents of Push-T from pixels and actions alone, at published sizes, on one GPU.

    python benchmarks/joint_embeddings.py --out runs/joint_embeddings --device cuda --minutes 5

1. data: expert episodes of the goal-reaching task and a tenth of random ones (`grasp-agent collect`).
2. models: every variant below, all at once, each for the given minutes of stage 1. How many steps that are is measured
   first, so it depends on the machine; the model's card says it. The rest takes about as long again. A run that was
   stopped goes on with the steps that it began with.
3. a table: what probes read of the pose, at once and after prediction. Simulator states serve this alone.

Weights are stored in half precision.

Sizes: the vector is LeWorldModel's (ViT-tiny, 192 numbers; arXiv 2603.19312), the grid DINO-WM's (14 x 14 cells; arXiv
2411.04983), both on frames of 64 pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from grasp_agent.data import EpisodeDataset
from grasp_agent.files.atomic import write_json
from grasp_agent.models import JointEmbeddingConfig
from grasp_agent.training import RECIPES, JointRecipe, train
from grasp_agent.training.joint import JointTask, JointWeights
from grasp_agent.training.loop import run_stage

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
PURE = JointWeights(sigreg=10.0, inverse=1.0, straightening=0.1)
DRAWN = replace(PURE, reconstruction=1.0)
GRID = JointWeights(sigreg=0.0, inverse=0.3, straightening=0.1, reconstruction=1.0, noise=0.1)


def vit_tiny(model: JointEmbeddingConfig) -> JointEmbeddingConfig:
    """The same model with a ViT-tiny as its encoder."""
    return replace(model, encoder="vit", encoder_width=192, encoder_depth=12, encoder_heads=3)


def variants(data: EpisodeDataset) -> dict[str, JointRecipe]:
    """The recipes by name, with one step of stage 1."""
    vector = RECIPES["joint"](data)
    assert isinstance(vector, JointRecipe)
    vector = replace(
        vector,
        model=replace(vector.model, state_size=192, dynamics_hidden=768, proposal_hidden=256),
        encoder=replace(vector.encoder, steps=1, batch=128, log_every=200),
        dynamics=replace(vector.dynamics, steps=4_000, batch=512),
        proposal=replace(vector.proposal, steps=3_000),
    )
    grid = RECIPES["joint_grid"](data)
    assert isinstance(grid, JointRecipe)
    grid = replace(grid, weights=GRID, encoder=replace(vector.encoder, batch=64))
    grid = replace(grid, dynamics=replace(grid.dynamics, steps=2_500, batch=128))
    attention = replace(vector.encoder, learning_rate=5e-4)
    fine = replace(grid.model, grid=14, patch=4, state_size=16, dynamics_hidden=96)
    return {
        "vit_vector": replace(vector, weights=PURE, encoder=attention, model=vit_tiny(vector.model)),
        "conv_vector": replace(vector, weights=DRAWN),
        "conv_grid": grid,
        "vit_grid": replace(grid, encoder=replace(attention, batch=64), model=vit_tiny(fine)),
    }


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
    """Store a model's weights in half precision."""
    path = folder / "model.safetensors"
    weights = {name: x.half() if x.is_floating_point() else x for name, x in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def collect(out: Path, steps: int) -> list[Path]:
    """The two data folders, made if need be."""
    folders = [out / "expert", out / "random"]
    for folder, policy, count in zip(folders, ("expert", "random"), (steps, max(steps // 10, 5000)), strict=True):
        command = ["collect", "--env", ENV, "--goal-horizon", "50", "--policy", policy, "--steps", str(count)]
        subprocess.run([sys.executable, "-m", "grasp_agent.cli", *command, "--out", str(folder)], check=True)
    return folders


def train_one(name: str, folders: list[Path], arguments: argparse.Namespace) -> None:
    """Train one variant; its folder then holds `model` in half precision and `metrics.json`."""
    data = EpisodeDataset(*folders)
    recipe = variants(data)[name]
    begun = arguments.out / f"{name}.json"
    if not begun.is_file():
        each = seconds_of_a_step(recipe, data, arguments.device, arguments.timed)
        steps = max(arguments.timed, round(60 * arguments.minutes / each))
        print(f"{name}: {1000 * each:.1f} ms a step, {steps} steps", flush=True)
        write_json(begun, {"steps": steps})
    steps = json.loads(begun.read_text())["steps"]
    recipe = replace(
        recipe,
        encoder=replace(recipe.encoder, steps=steps),
        dynamics=replace(recipe.dynamics, steps=round(arguments.later * recipe.dynamics.steps)),
        proposal=replace(recipe.proposal, steps=round(arguments.later * recipe.proposal.steps)),
    )
    began = time.perf_counter()

    def say(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
        if step % (5 * recipe.encoder.log_every) == 0 or step == steps:
            shown = "  ".join(f"{k} {v:.4f}" for k, v in terms.items())
            print(f"{name} {time.perf_counter() - began:.0f}s {stage} {step}/{steps}  {shown}", flush=True)

    train(data, recipe, arguments.out / name, arguments.device, on_log=say)
    halve(arguments.out / name / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=5.0, help="of stage 1, for every variant")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps of expert data")
    parser.add_argument("--variant", action="append", help="name; repeat it. Default: all")
    parser.add_argument("--timed", type=int, default=60, help="steps that the speed is measured on")
    parser.add_argument("--later", type=float, default=1.0, help="share of the usual steps of the later stages")
    parser.add_argument("--alone", action="store_true", help="train in this process, on data that are there")
    arguments = parser.parse_args()
    if arguments.alone:
        torch.set_num_threads(4)
        torch.set_float32_matmul_precision("high")
        folders = [arguments.out / "expert", arguments.out / "random"]
        train_one(arguments.variant[-1], folders, arguments)
        return
    folders = collect(arguments.out, arguments.steps)
    names = arguments.variant or list(variants(EpisodeDataset(*folders)))
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
        probes = {k: [v["median"] for v in errors.values()] for k, errors in metrics["probes"].items()}
        ahead = {k: [v["median"] for v in errors.values()] for k, errors in metrics["errors_by_step"].items()}
        print(
            f"{name}: probes {probes}\n  after prediction {ahead}\n  latent {metrics['relative_latent_error_by_step']}"
        )


if __name__ == "__main__":
    main()
