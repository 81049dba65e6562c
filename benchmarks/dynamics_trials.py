"""What the dynamics needs: data amount, structure, action block, width, unrolling. One short training per trial.

    python benchmarks/dynamics_trials.py --data runs/data --out benchmarks/dynamics_trials

All trials learn from the same encoder's latents with the same number of optimiser steps, far fewer than the shipped
model's, and are judged on the same held-out expert episodes. Writes results.json and amount.png; a stopped run goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import PLANAR_PUSH, LatentWorldModel, WorldModelConfig, load_world_model
from grasp_agent.training import RECIPES, LatentRecipe
from grasp_agent.training.dynamics import DynamicsTask
from grasp_agent.training.loop import run_stage
from grasp_agent.training.report import prediction_errors
from grasp_agent.training.representation import encode_dataset


@dataclass(frozen=True)
class Trial:
    """One change to the reference, which is the shipped model's set-up on all training episodes."""

    share: float = 1.0
    structured: bool = True
    block: int = 1
    width: int = 384
    unroll: int = 12
    symmetry: bool = True
    noise: float = 0.0
    history: int = 3


class NoisyTask(DynamicsTask):
    """The history that a rollout begins from is disturbed, so that small errors of a plan's states do not grow."""

    noise = 0.0

    def draw(self, generator: np.random.Generator) -> tuple[torch.Tensor, ...]:
        states, actions = super().draw(generator)
        states = states.clone()
        h = self.model.history
        states[:, :h] += self.noise * torch.from_numpy(generator.standard_normal(states[:, :h].shape, np.float32))
        return states, actions


TRIALS = {
    "2 % of the data": Trial(share=0.02),
    "8 % of the data": Trial(share=0.08),
    "30 % of the data": Trial(share=0.3),
    "reference": Trial(),
    "width 192": Trial(width=192),
    "unroll 1": Trial(unroll=1),
    "no symmetry": Trial(symmetry=False),
    "latents disturbed by 0.5 px": Trial(noise=0.025),
    "history of 1 frame": Trial(history=1),
    "plain MLP, no symmetry": Trial(structured=False, symmetry=False),
    "plain MLP, no symmetry, blocks of 5": Trial(structured=False, symmetry=False, block=5, unroll=3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by grasp-agent collect")
    parser.add_argument("--model", default="pusht-pose", help="whose encoder is used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/dynamics_trials"), help="latents and checkpoints")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of each training")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    data = EpisodeDataset(options.data)
    recipe = RECIPES["pose"](data)
    assert isinstance(recipe, LatentRecipe)
    encoder = load_world_model(options.model)
    assert isinstance(encoder, LatentWorldModel) and data.states is not None
    cache = options.work / "latents.npy"
    if not cache.is_file():
        np.save(options.work / "unfinished.npy", encode_dataset(encoder, data))
        os.replace(options.work / "unfinished.npy", cache)
    latents = np.load(cache)
    training, held_out = data.split(recipe.held_out)

    results: dict[str, Any] = {}
    for name, trial in TRIALS.items():
        torch.manual_seed(0)
        model = LatentWorldModel(configured(encoder.config, trial)).eval()
        episodes = training[: max(1, round(trial.share * len(training)))]
        folder = options.work / name.replace(" ", "_").replace("%", "percent").replace(",", "")
        folder.mkdir(exist_ok=True)
        task = NoisyTask(model, data, latents, episodes, recipe.dynamics.batch, trial.unroll, trial.symmetry)
        task.noise = trial.noise
        run_stage(replace(recipe.dynamics, steps=options.steps), task, folder, seed=1)
        judge = DynamicsTask(model, data, latents, held_out, recipe.dynamics.batch, 50 // trial.block, symmetry=False)
        results[name] = {
            "frames": int(data.lengths[episodes].sum()),
            "errors": prediction_errors(model, judge, PLANAR_PUSH.latents_of_states(data.states), PLANAR_PUSH),
        }
        print(name, {k: (e["body_px"]["median"], e["body_px"]["mean"]) for k, e in results[name]["errors"].items()})
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"steps": options.steps, "trials": results}, indent=2) + "\n"
    (options.out / "results.json").write_text(text)
    plot(results, options.out / "amount.png")


def configured(config: WorldModelConfig, trial: Trial) -> WorldModelConfig:
    """The trial's dynamics on the reference's latents."""
    config = replace(config, decoder_channels=0, proposal_hidden=0, dynamics_hidden=trial.width, history=trial.history)
    if trial.structured:
        return config
    return replace(config, layout="free", action_block=trial.block)


def plot(results: dict[str, Any], path: Path) -> None:
    """Median and mean block error against the frames of training, one line per look-ahead."""
    from matplotlib.figure import Figure

    sizes = [row for name, row in results.items() if name == "reference" or "of the data" in name]
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    for axes, statistic in zip(figure.subplots(1, 2), ("median", "mean"), strict=True):
        for step in ("1", "5", "10", "25", "50"):
            errors = [row["errors"][step]["body_px"][statistic] for row in sizes]
            axes.loglog([row["frames"] for row in sizes], errors, marker="o", label=f"{step} steps")
        axes.set(xlabel="frames of training", ylabel=f"{statistic} block error [px]")
        axes.grid(alpha=0.3, which="both")
    axes.legend(title="ahead", fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
