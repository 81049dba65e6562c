"""How far ahead is a world model to be believed, and does it help to look at the plan to tell?

    python benchmarks/trust.py --model pusht --data runs/px_expert --out benchmarks/trust/pusht

Recorded actions of held-out episodes are rolled out in the model. The error e_t of the predicted latent after t steps
is compared with two bounds that 90 % of the errors should stay below:

    steps     the 90 % quantile of e_t over other episodes: the same for every plan
    spread    c_t times the spread of `--samples` rollouts of the same actions. Each is disturbed at its start by the
              error of the encoder and one step, and at every step, in any direction, by a share of the move

c_t is the 90 % quantile of e_t / spread_t over the same other episodes (split conformal prediction; Vovk et al., 2005).
Errors and bounds are in hundredths of the latents' spread over the data. A bound is good if it covers 90 %, is narrow,
and tells which rollouts go wrong: "tells" is the chance that of two rollouts the one with the larger bound has the
larger error (0.5 is guessing).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grasp_agent.data import EpisodeDataset
from grasp_agent.files.atomic import write_text
from grasp_agent.models import load_world_model
from grasp_agent.training.dynamics import FrameWindows, unrolled

COVER = 0.9
SMALLEST = 1e-6


@torch.inference_mode()
def encoded(model: Any, data: EpisodeDataset, frames: NDArray[np.int64]) -> Tensor:
    """Latents of all frames [F, *S]; only those of `frames` are computed, the others are 0."""
    latents = torch.zeros(len(data), *model.state_shape)
    for part in np.array_split(frames, max(1, len(frames) // 200)):
        latents[torch.from_numpy(part)] = model.encode(torch.from_numpy(data.frames(part)))
    return latents


class Disturbed:
    """A model whose predictions are off, in any direction, by a share of the move that they foresee."""

    def __init__(self, model: Any, share: float, seed: int) -> None:
        self.history, self.model, self.share = model.history, model, share
        self.generator = torch.Generator().manual_seed(seed)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        following: Tensor = self.model.predict(states, actions)
        move = (following - states[:, -1]).flatten(1).square().mean(1).sqrt()
        off = torch.randn(following.shape, generator=self.generator)
        return following + self.share * move.view(-1, *[1] * (following.ndim - 1)) * off


def quantile(values: Tensor) -> Tensor:
    """The conformal quantile over rows [N, T] -> [T]: a little above 90 %, as N is finite."""
    return values.quantile(min(1.0, COVER * (1 + 1 / len(values))), dim=0)


def telling(bounds: Tensor, errors: Tensor, pairs: int = 20_000) -> float:
    """The chance that of two rollouts the one with the larger bound has the larger error."""
    one, other = np.random.default_rng(0).integers(len(errors), size=(2, pairs))
    larger = (bounds[one] - bounds[other]) * (errors[one] - errors[other])
    return float((larger > 0).float().mean() + 0.5 * (larger == 0).float().mean())


def spread_under_noise(
    model: Any, history: Tensor, actions: Tensor, plain: Tensor, off: float, samples: int = 8, noise: float = 0.1
) -> Tensor:
    """How far disturbed rollouts get from the plain one, root mean square, [N, T].

    Args:
        model: who predicts.
        history: where the rollouts begin, [N, h, *S].
        actions: of the rollouts.
        plain: the undisturbed one, [N, T, *S].
        off: how far the start is off, as encoder and one step are: shared out to all numbers of a latent.
        samples: disturbed rollouts.
        noise: share of a move by which each prediction is off.
    """
    shift = off / history[0, 0].numel() ** 0.5
    squares = torch.zeros(plain.shape[:2])
    for sample in range(samples):
        generator = torch.Generator().manual_seed(100 + sample)
        begin = history + shift * torch.randn(history.shape, generator=generator)
        disturbed: Any = Disturbed(model, noise, sample)
        squares += (unrolled(disturbed, begin, actions, plain.shape[1]) - plain).flatten(2).square().sum(2)
    return (squares / samples).sqrt()


@torch.inference_mode()
def study(model: Any, data: EpisodeDataset, count: int, samples: int, noise: float) -> list[dict[str, Any]]:
    """Errors and bounds by steps ahead; the bounds come from the odd episodes, the errors from the even ones."""
    held_out = data.split(0.05)[1]
    longest = int(data.lengths[held_out].max()) - 1
    steps = max(1, min(model.look_ahead, longest) // model.action_block)
    starts = data.windows(held_out, steps * model.action_block + 1)
    chosen = np.sort(np.random.default_rng(0).choice(starts, min(count, len(starts)), replace=False))
    numbers, actions = FrameWindows(model, data).numbers(torch.from_numpy(chosen), steps)
    states = encoded(model, data, np.unique(numbers.numpy()))[numbers]
    history, real = states[:, : model.history], states[:, model.history :]
    unit = float(real.flatten(0, 1).std(0).square().sum().sqrt()) / 100
    plain = unrolled(model, history, actions, steps)
    errors = (plain - real).flatten(2).norm(dim=2) / unit  # [N, T]
    off = float(errors[:, 0].median()) * unit
    spread = spread_under_noise(model, history, actions, plain, off, samples, noise) / unit + SMALLEST

    episode = torch.from_numpy(np.searchsorted(data.starts, chosen, side="right"))
    odd = episode % 2 == 1
    bounds = {
        "steps": quantile(errors[odd]).expand(int((~odd).sum()), -1),
        "spread": quantile(errors[odd] / spread[odd]) * spread[~odd],
    }
    found = []
    for t in sorted({t for t in (1, 5, 10, 25, 40, steps) if t <= steps}):
        error = errors[~odd, t - 1]
        row: dict[str, Any] = {"ahead": t * model.action_block, "median": float(error.median())}
        for name, bound in bounds.items():
            now = bound[:, t - 1]
            covers, width = float((error <= now).float().mean()), float(now.median())
            row[name] = {"covers": covers, "bound": width, "tells": telling(now, error)}
        found.append(row)
    return found


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| steps ahead | median error | bound by steps | covers | bound by spread, median | covers | tells |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        one, other = row["steps"], row["spread"]
        lines.append(
            f"| {row['ahead']} | {row['median']:.1f} | {one['bound']:.1f} | {one['covers']:.0%} |"
            f" {other['bound']:.1f} | {other['covers']:.0%} | {other['tells']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a shipped name, a folder or a hub id")
    parser.add_argument("--data", type=Path, required=True, help="what the model was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and table.md")
    parser.add_argument("--windows", type=int, default=1000, help="rollouts")
    parser.add_argument("--samples", type=int, default=8, help="disturbed rollouts of each")
    parser.add_argument("--noise", type=float, default=0.1, help="share of a move by which the model is taken to err")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = study(
        load_world_model(options.model),
        EpisodeDataset(options.data),
        options.windows,
        options.samples,
        options.noise,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(options.out / "table.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
