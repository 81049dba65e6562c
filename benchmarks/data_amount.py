"""How the accuracy of the dynamics grows with the data: four sizes, same network, same optimiser steps.

    python benchmarks/data_amount.py --data runs/data --model pusht --out benchmarks/data_amount

Encoder and held-out episodes stay the same; the dynamics starts from random weights each time and trains on the
first share of the training episodes. Writes results.json and errors.png; a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import LatentWorldModel, load_world_model
from grasp_agent.training import RECIPES
from grasp_agent.training.dynamics import DynamicsTask
from grasp_agent.training.loop import run_stage
from grasp_agent.training.report import prediction_errors
from grasp_agent.training.representation import encode_dataset

SHARES = (0.02, 0.08, 0.3, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by grasp-agent collect")
    parser.add_argument("--model", default="pusht", help="whose encoder is used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/data_amount"), help="latents and checkpoints")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of each training")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    data = EpisodeDataset(options.data)
    recipe = RECIPES["pusht"]()
    model = load_world_model(options.model)
    assert isinstance(model, LatentWorldModel) and data.states is not None
    cache = options.work / "latents.npy"
    if not cache.is_file():
        np.save(options.work / "unfinished.npy", encode_dataset(model, data))
        os.replace(options.work / "unfinished.npy", cache)
    latents = np.load(cache)
    training, held_out = data.split(recipe.held_out)
    validation = DynamicsTask(model, data, latents, held_out, recipe.dynamics.batch, 50, symmetry=False)

    results = {}
    for share in SHARES:
        episodes = training[: max(1, round(share * len(training)))]
        torch.manual_seed(0)
        model.dynamics = LatentWorldModel(model.config).dynamics
        folder = options.work / f"share-{share}"
        folder.mkdir(exist_ok=True)
        task = DynamicsTask(model, data, latents, episodes, recipe.dynamics.batch, recipe.unroll, symmetry=True)
        run_stage(replace(recipe.dynamics, steps=options.steps), task.module, task.draw, task.losses, folder, seed=1)
        frames = int(data.lengths[episodes].sum())
        results[frames] = prediction_errors(model, validation, data.states)
        print(frames, {step: round(row["body_px"]["mean"], 2) for step, row in results[frames].items()}, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    text = {"steps": options.steps, "errors_by_frames_and_step": results}
    (options.out / "results.json").write_text(json.dumps(text, indent=2) + "\n")
    plot(results, options.out / "errors.png")


def plot(results: dict[int, dict[str, dict[str, dict[str, float]]]], path: Path) -> None:
    """Median and mean block error against the frames of training, one line per look-ahead."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    for axes, statistic in zip(figure.subplots(1, 2), ("median", "mean"), strict=True):
        for step in ("1", "5", "10", "25", "50"):
            errors = [row[step]["body_px"][statistic] for row in results.values()]
            axes.loglog(list(results), errors, marker="o", label=f"{step} steps")
        axes.set(xlabel="frames of training", ylabel=f"{statistic} block error [px]")
        axes.grid(alpha=0.3, which="both")
    axes.legend(title="ahead", fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
