"""Does lifted planning pay in a patch latent, as GRASP's paper says of DINO-WM? A small one, trained on a CPU.

    python benchmarks/patch_latents.py --data runs/data --work runs/patch_latents --out benchmarks/patch_latents

1. backbone: a small ViT (the architecture of DINOv2) becomes an autoencoder of single frames. Each frame is a grid of
   patch tokens of fixed variance, drawn again by a head of attention from tokens with noise on them; the error is
   measured at several resolutions. The noise makes frames that look different lie apart, the coarse resolutions make
   them lie the further apart the further things have moved.
2. predictor: a DINO-WM on these frozen tokens, with the package's own training (`DinoWMRecipe`).
3. errors: of the prediction, against copying the last latent; what probes read of the pose; drawn rollouts.
4. speed: of a lifted iteration and of one through the rollout, for plans of 5, 10 and 16 blocks.
5. plans: one open-loop plan per goal and planner within equal time.

Success under the model is a root mean square latent distance below the median one between held-out frames of an
episode whose states differ by just the environment's tolerance. Simulator states serve this and the probes alone.
Every stage goes on from what its folder already holds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.benchmark.episodes import Contestant, Episodes
from grasp_agent.benchmark.report import write_report
from grasp_agent.benchmark.stages import Benchmark
from grasp_agent.core.types import Budget
from grasp_agent.data import EpisodeDataset
from grasp_agent.data.dataset import META_NAME
from grasp_agent.files.atomic import write_json
from grasp_agent.models import load_world_model
from grasp_agent.models.dino_wm.backbone import save_backbone
from grasp_agent.models.dino_wm.model import DinoWMConfig, DinoWorldModel
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import (
    CEM,
    GRASP,
    LBFGS,
    Alternate,
    GradientDescent,
    Lifted,
    MultiStart,
    iterate,
    with_settings,
)
from grasp_agent.planning.solvers.solver import AnySolver
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.training.dynamics import unrolled
from grasp_agent.training.loop import Batch, Losses, Stage, run_stage
from grasp_agent.training.patches import DinoWMRecipe, PatchTask
from grasp_agent.training.probes import fit_linear, fit_mlp
from grasp_agent.training.train import train

PATCH, GRID, WIDTH = 16, 4, 64
"""Pixels of a patch, patches per side, numbers per patch."""
PIXELS = {"pixel_mean": (0.98, 0.98, 0.98), "pixel_std": (0.08, 0.08, 0.08)}
NOISE = 0.5
"""On the tokens while the autoencoder learns, in their standard deviation."""
SCALES = 4
"""Halvings of the resolution at which frames are compared; each counts twice the one before."""
HELD_OUT = 0.05
REACH_FRAMES = 51
"""Frames of an episode of the task that is planned for."""


class Head(nn.Module):
    """Tokens [B, P, F] -> frames [B, 3, size, size], in the backbone's units."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(GRID**2, WIDTH))
        self.block = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.pixels = nn.Linear(WIDTH, 3 * PATCH**2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.pixels(self.norm(self.block(tokens + self.place)))
        x = x.unflatten(1, (GRID, GRID)).unflatten(3, (3, PATCH, PATCH))  # [B, row, column, colour, y, x]
        image: Tensor = x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return image


class AutoencoderTask:
    """Batches and losses of the autoencoder.

    Args:
        data: frames.
        numbers: of the frames to train on.
        batch: frames per step.
    """

    def __init__(self, data: EpisodeDataset, numbers: NDArray[np.int64], batch: int) -> None:
        from transformers import Dinov2Config, Dinov2Model

        settings = Dinov2Config(
            hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, image_size=GRID * PATCH, patch_size=PATCH
        )
        self.backbone: Any = Dinov2Model(settings)
        self.backbone.layernorm.requires_grad_(False)  # tokens of unit variance, else they would outgrow the noise
        self.head = Head()
        self.module = nn.ModuleList([self.backbone, self.head])
        self.data, self.numbers, self.batch = data, numbers, batch

    def draw(self, generator: np.random.Generator) -> Batch:
        frames = torch.from_numpy(self.data.frames(generator.choice(self.numbers, self.batch)))
        return frames, torch.from_numpy(generator.standard_normal((self.batch, GRID**2, WIDTH), dtype=np.float32))

    def losses(self, batch: Batch, progress: float) -> Losses:
        frames, noise = batch
        images = normalised(frames)
        tokens = self.backbone(pixel_values=images).last_hidden_state[:, 1:]
        gap = self.head(tokens + NOISE * noise) - images
        terms = {"pixels": gap.square().mean()}
        loss = terms["pixels"]
        for scale in range(1, SCALES + 1):
            gap = functional.avg_pool2d(gap, 2)
            loss = loss + 2.0**scale * gap.square().mean()
        return {"loss": loss, **terms, "coarsest": gap.square().mean()}


def normalised(frames: Tensor) -> Tensor:
    """uint8 [B, size, size, 3] -> the backbone's units, [B, 3, size, size]."""
    mean, deviation = (torch.tensor(PIXELS[name]) for name in ("pixel_mean", "pixel_std"))
    return ((frames / 255 - mean) / deviation).permute(0, 3, 1, 2)


def report(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
    """One line of progress."""
    print(f"{stage} {step}/{steps}  " + "  ".join(f"{k} {v:.4f}" for k, v in terms.items()), flush=True)


def train_backbone(data: EpisodeDataset, folder: Path, steps: int) -> None:
    """Train the autoencoder, and save its encoder to folder/backbone and its head to folder/head.pt."""
    if (folder / "head.pt").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    training, _ = data.split(HELD_OUT)
    torch.manual_seed(0)
    task = AutoencoderTask(data, data.frame_numbers(training), batch=64)
    stage = Stage("backbone", steps=steps, batch=task.batch, learning_rate=1e-3, log_every=200)
    run_stage(stage, task, folder, seed=0, on_log=report)
    save_backbone(task.backbone, folder / "backbone")
    torch.save(task.head.state_dict(), folder / "head.pt")


def reaching(data: Path, folder: Path) -> EpisodeDataset:
    """The shards of goal-reaching episodes, linked from `folder`: frames of the other task show its goal as well."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (data / META_NAME, *sorted(data.glob("shard-*"))):
        other = path.is_dir() and np.load(path / "lengths.npy").max() > REACH_FRAMES
        if not other and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
    return EpisodeDataset(folder)


def recipe(folder: Path, steps: int) -> DinoWMRecipe:
    """The predictor's sizes and schedule."""
    model = DinoWMConfig(
        image_size=GRID * PATCH,
        grid=GRID,
        pixel_mean=PIXELS["pixel_mean"],
        pixel_std=PIXELS["pixel_std"],
        history=2,
        action_block=5,
        depth=3,
        heads=4,
        dim_head=32,
        mlp_dim=256,
        dropout=0.0,
    )
    stage = Stage("predictor", steps=steps, batch=32, learning_rate=1.5e-3, log_every=200)
    return DinoWMRecipe(model, str(folder / "backbone"), stage, held_out=HELD_OUT)


# ----- what the model knows ---------------------------------------------------------------------------------


@torch.no_grad()
def latents_of(model: DinoWorldModel, data: EpisodeDataset, numbers: NDArray[np.int64]) -> Tensor:
    """Latents of frames [n] -> [n, D]."""
    parts = np.array_split(numbers, max(1, len(numbers) // 256))
    return torch.cat([model.encode(torch.from_numpy(data.frames(part))).flatten(1) for part in parts])


def measure(model: DinoWorldModel, data: EpisodeDataset, steps: int = 5, windows: int = 500) -> dict[str, Any]:
    """Errors on held-out episodes, in the latent and in the pose that probes read; and the threshold of success."""
    assert data.states is not None
    training, held_out = data.split(HELD_OUT)
    generator = np.random.default_rng(0)
    known = generator.choice(data.frame_numbers(training), 12_000, replace=False)
    z, poses = latents_of(model, data, known), torch.from_numpy(PLANAR_PUSH.latents_of_states(data.states[known]))
    probes = {"linear": fit_linear(z, poses, alpha=1e-2), "mlp": fit_mlp(z, poses)}

    task, k, h = PatchTask(model, data, held_out, 32), model.action_block, model.history
    present = torch.from_numpy(generator.permutation(data.windows(held_out, steps * k + 1))[:windows])
    with torch.no_grad():
        images, proprio, actions = task.window(present, steps)
        states = task.encoded(images, proprio)
        predicted = unrolled(model, states, actions, steps)
    wanted, copied = states[:, h:], states[:, h - 1 : h]
    poses_true = torch.from_numpy(
        PLANAR_PUSH.latents_of_states(data.states[present.numpy()[:, None] + k * np.arange(1, steps + 1)])
    )
    errors = (predicted - wanted).square().mean((0, 2, 3))
    copying = (copied - wanted).square().mean((0, 2, 3))
    found: dict[str, Any] = {
        "steps": [k * t for t in range(1, steps + 1)],
        "prediction_error": errors.tolist(),
        "copy_error": copying.tolist(),
        "relative_to_copying": (errors / copying).tolist(),
        "probes": {},
    }
    for name, probe in probes.items():
        found["probes"][name] = {
            where: {
                what: [round(float(e), 2) for e in error.median(0).values]
                for what, error in PLANAR_PUSH.errors(probe(latents.flatten(2)), poses_true).items()
            }
            for where, latents in (("encoded", wanted), ("predicted", predicted), ("copied", copied.expand_as(wanted)))
        }
    return found | tolerance(model, data, held_out)


def tolerance(model: DinoWorldModel, data: EpisodeDataset, episodes: NDArray[np.int64]) -> dict[str, float]:
    """The latent distance that corresponds to the environment's tolerance, and how far goals are from starts."""
    assert data.states is not None
    chosen = episodes[data.lengths[episodes] > 50][:150]
    numbers = data.starts[chosen][:, None] + np.arange(0, 51, 2)
    latents = latents_of(model, data, numbers.ravel()).unflatten(0, numbers.shape)
    first, second = np.triu_indices(numbers.shape[1], 1)
    distance = (latents[:, first] - latents[:, second]).square().mean(2).sqrt().numpy().ravel()
    poses = torch.from_numpy(PLANAR_PUSH.latents_of_states(data.states[numbers]))
    errors = PLANAR_PUSH.errors(poses[:, first], poses[:, second])
    apart = torch.maximum(torch.hypot(errors["pusher_px"], errors["body_px"]), errors["body_deg"]).numpy().ravel()
    within = distance[(apart > 18) & (apart < 22)]
    threshold = float(np.median(within))
    return {
        "threshold": threshold,
        "pairs_at_tolerance": len(within),
        "distance_25_steps": float(np.median((latents[:, 0] - latents[:, 12]).square().mean(1).sqrt())),
        "distance_50_steps": float(np.median((latents[:, 0] - latents[:, -1]).square().mean(1).sqrt())),
        "below_threshold_within_20": float((distance[apart < 20] < threshold).mean()),
        "below_threshold_beyond_30": float((distance[apart > 30] < threshold).mean()),
    }


@torch.no_grad()
def draw_rollouts(model: DinoWorldModel, data: EpisodeDataset, head: Head, path: Path, count: int = 4) -> None:
    """Per window three rows: frames, their latents drawn, and the predicted latents drawn."""
    from PIL import Image

    _, held_out = data.split(HELD_OUT)
    task, steps = PatchTask(model, data, held_out, count), 8
    windows = data.windows(held_out, steps * model.action_block + 1)
    present = torch.from_numpy(np.random.default_rng(1).choice(windows, count, replace=False))
    images, proprio, actions = task.window(present, steps)
    states = task.encoded(images, proprio)
    predicted = torch.cat([states[:, : model.history], unrolled(model, states, actions, steps)], dim=1)
    rows = [images.float() / 255]
    for latents in (states, predicted):
        drawn = head(latents.flatten(0, 1)).permute(0, 2, 3, 1)
        drawn = drawn * torch.tensor(PIXELS["pixel_std"]) + torch.tensor(PIXELS["pixel_mean"])
        rows.append(drawn.clamp(0, 1).unflatten(0, images.shape[:2]))
    picture = torch.stack(rows, 1).flatten(0, 1)  # [rows, frames, y, x, colour]
    pixels = (picture.permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(1, 2) * 255).byte().numpy()
    Image.fromarray(pixels).resize((2 * pixels.shape[1], 2 * pixels.shape[0])).save(path)


# ----- planning ---------------------------------------------------------------------------------------------


def speed(model: DinoWorldModel, steps: Sequence[int] = (5, 10, 16), rounds: int = 7) -> dict[str, Any]:
    """Milliseconds of an iteration for one problem on one thread, by restarts, kind and blocks of the plan."""
    counting = CountingModel(model)
    found: dict[str, Any] = {}
    for restarts in (1, 4):
        solvers: dict[str, AnySolver] = {
            "lifted": Lifted(),
            "lifted, state gradients": Lifted(stop_gradient=False),
            "rollout and its gradient": GradientDescent(),
        }
        for name, solver in solvers.items():
            planner, times = MultiStart(solver, restarts=restarts, candidates=0), {}
            for count in steps:
                with Episodes(GoalEnv(), counting, count * model.action_block, [20000]) as episodes:
                    problem = episodes.problem(planner, GoalDistance(running=0.0))
                loop, spent = iterate(planner, problem, Budget(iterations=rounds + 1)), []
                next(loop)
                for _ in range(rounds + 1):
                    began = time.process_time()
                    next(loop)
                    spent.append(time.process_time() - began)
                times[str(count)] = round(1e3 * float(np.median(spent[1:])), 2)
            found.setdefault(f"{restarts} restarts", {})[name] = times
    return found


def contestants() -> dict[str, MultiStart]:
    """Who plans; the first is what the others are compared to."""
    grasp = GRASP.large_latent()
    # The lifted phase as a beginning for gradient descent through the rollout, which has the rest of the time.
    lifted = Lifted(action_rate=0.1, goal_weight=1.0)
    begin = MultiStart(Alternate(lifted, GradientDescent(), steps=(16, 100_000)), restarts=4, refresh=2)
    return {
        "grasp": grasp,
        "grasp, next to no lifted phase": with_settings(grasp, {"solver.then.action_rate": 1e-9}),
        "grasp, state gradients": with_settings(grasp, {"solver.then.stop_gradient": False}),
        "gd, 4 restarts": MultiStart(GradientDescent(), restarts=4, refresh=2),
        "lbfgs, 4 restarts": MultiStart(LBFGS(), restarts=4, refresh=2),
        "cem, smooth": MultiStart(CEM(correlation=0.9), restarts=1, candidates=32, refresh=0),
        "begin, goal weight 1, rate 0.1": begin,
        "begin, goal weight 1, rate 0.1, state gradients": with_settings(begin, {"solver.first.stop_gradient": False}),
        "paper": GRASP.paper(),
    }


def play(
    model: Path, out: Path, who: Mapping[str, MultiStart], horizon: int, goals: Sequence[int], seconds: float
) -> None:
    """One plan per goal and planner, written to `out` with tables and plots."""
    threshold = json.loads((out.parent / "errors.json").read_text())["threshold"]
    benchmark = Benchmark(str(model), out, batch=len(goals), threshold=threshold, progress=False)
    for name in who:  # one by one: rows are there to be read as soon as a planner is done
        began = time.monotonic()
        rows = benchmark.open_loop({name: Contestant(who[name])}, [horizon], goals, seconds)
        mine = [row for row in rows if row.planner == name]
        print(
            f"H {horizon}  {name:42s} {mine[0].iterations:4d} iterations"
            f"  model {sum(row.model_success for row in mine):2d}  end {sum(row.real_success for row in mine):2d}"
            f"  any {sum(row.real_success_any for row in mine):2d} of {len(mine)}"
            f"  cost {np.mean([row.cost for row in mine]):7.2f}  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    write_report(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder written by grasp-agent collect, frames of 64 px"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/patch_latents"), help="checkpoints and the model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--backbone-steps", type=int, default=3600)
    parser.add_argument("--predictor-steps", type=int, default=9000)
    parser.add_argument("--planner", action="append", help="by its name in `contestants`; repeat it; default: all")
    parser.add_argument("--horizon", type=int, default=25, help="environment steps to the goals")
    parser.add_argument("--goals", type=int, default=24)
    parser.add_argument("--seed", type=int, default=20000, help="of the first goal")
    parser.add_argument("--seconds", type=float, default=2.0, help="per plan")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")  # bfloat16 passes that add up to float32, where the CPU has them

    train_backbone(EpisodeDataset(options.data), options.work, options.backbone_steps)
    data, out = reaching(options.data, options.work / "data"), options.out
    train(data, recipe(options.work, options.predictor_steps), options.work / "predictor", on_log=report)
    out.mkdir(parents=True, exist_ok=True)
    saved = options.work / "predictor" / "model"
    model = load_world_model(str(saved))
    assert isinstance(model, DinoWorldModel)
    if not (out / "errors.json").is_file():
        head = Head()
        head.load_state_dict(torch.load(options.work / "head.pt", weights_only=True))
        draw_rollouts(model, data, head.eval(), out / "rollouts.png")
        write_json(out / "errors.json", measure(model, data))
    if not (out / "speed.json").is_file():
        write_json(out / "speed.json", speed(model))
    everyone = contestants()
    who = {name: everyone[name] for name in options.planner or everyone}
    goals = range(options.seed, options.seed + options.goals)
    play(saved, out / f"{options.horizon}_steps_{options.seed}", who, options.horizon, goals, options.seconds)


if __name__ == "__main__":
    main()
