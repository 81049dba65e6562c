"""How well an agent plans with a world model that was never told a pose, with and without proposals, and disturbed.

    python benchmarks/pixels_only.py --model pusht --out benchmarks/pixels_only --episodes 200 --batch 50
    python benchmarks/pixels_only.py --model pusht --out benchmarks/pixels_only --only disturbed --episodes 100
    python benchmarks/pixels_only.py --model pusht --out benchmarks/pixels_only --only encoder --data runs/data

Three agents play the same held-out goals 25, 50 and 80 expert steps away, each with twice as many steps:

    grasp            the default planner
    alone            the same without proposals: it begins from random plans
    prior            the proposals without search

under the tolerance of the published protocol ("pose": 20 px over pusher and block, 20 degrees) and a strict one
("strict": 10 px and 10 degrees of the block alone, held for 3 steps). Of "disturbed" pictures, 25 steps away, the
default planner sees every frame and the goal with

    noise_8, noise_16    Gaussian noise of this deviation, of 255
    tint                 a light of another colour: white becomes a pale yellow
    dark                 a light of 80 % of the strength
    patch                a grey square of 6 x 6 pixels that belongs to nothing, near a corner

"encoder" tells the errors of the pose, as a linear probe reads it, of frames that are disturbed like that, in which
pusher and block touch, and in which the pusher is partly outside, for the model and for the supervised "pusht-pose".

Every row goes on where it was stopped. OUT/table.md holds all rows that were played.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_agent import GRASPAgent
from grasp_agent.core.capabilities import proposes
from grasp_agent.data import EpisodeDataset
from grasp_agent.evaluation import Results, evaluate
from grasp_agent.evaluation.results import EpisodeResult
from grasp_agent.files.atomic import write_text
from grasp_agent.files.records import read_rows
from grasp_agent.models import load_world_model
from grasp_agent.models.frames import frames_of
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.planning import planner_for
from grasp_agent.rollouts.environments import make_env
from grasp_agent.training.probes import fit_linear

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
DISTANCES = (25, 50, 80)
PARTS = ("pose", "strict", "disturbed", "encoder")
AGENT_RADIUS = 15.0


def noisy(deviation: float) -> Callable[[Tensor], Tensor]:
    def disturb(frames: Tensor) -> Tensor:
        # noise of the picture alone: the same frame is disturbed in the same way wherever it is encoded
        rows = [torch.Generator().manual_seed(int(frame.long().sum())) for frame in frames]
        noise = torch.stack([torch.randn(frames.shape[1:], generator=row) for row in rows])
        return frames + deviation * noise

    return disturb


def tinted(frames: Tensor) -> Tensor:
    return frames * torch.tensor([1.0, 0.97, 0.85])


def darkened(frames: Tensor) -> Tensor:
    return frames * 0.8


def patched(frames: Tensor) -> Tensor:
    frames = frames.clone()
    frames[:, 6:12, 50:56] = 128.0
    return frames


DISTURBANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "noise_8": noisy(8.0),
    "noise_16": noisy(16.0),
    "tint": tinted,
    "dark": darkened,
    "patch": patched,
}


def disturbed(model: Any, name: str) -> Any:
    """A copy of the model that sees all pictures disturbed."""
    changed = copy.deepcopy(model)
    encode = changed.encode

    def encode_disturbed(obs: Any) -> Tensor:
        frames = DISTURBANCES[name](frames_of(obs, model.image_size).float())
        latents: Tensor = encode(frames.round().clamp(0, 255).to(torch.uint8))
        return latents

    changed.encode = encode_disturbed
    return changed


def encoder_errors(name: str, data: EpisodeDataset, frames: int = 1500) -> list[str]:
    """Lines of a table: median / 95th percentile of the errors of a model's encoder by kind of frame."""
    model: Any = load_world_model(name)
    assert data.states is not None
    numbers = np.sort(np.random.default_rng(0).choice(data.frame_numbers(data.split(0.05)[1]), frames))
    images, states = torch.from_numpy(data.frames(numbers)), data.states[numbers]
    true = torch.from_numpy(PLANAR_PUSH.latents_of_states(states))
    pusher, block = states[:, 0:2], states[:, 2:4]
    kinds = {
        "touching": np.linalg.norm(pusher - block, axis=1) < 80,
        "outside": ((pusher < AGENT_RADIUS) | (pusher > 512 - AGENT_RADIUS)).any(1),
    }
    with torch.inference_mode():
        plain = torch.cat([model.encode(part) for part in images.split(100)])
        probe = fit_linear(plain.clone(), true)
        latents = {"as they are": plain}
        for kind, disturb in DISTURBANCES.items():
            seen = disturb(images.float()).round().clamp(0, 255).to(torch.uint8)
            latents[kind] = torch.cat([model.encode(part) for part in seen.split(100)])
    rows = {kind: PLANAR_PUSH.errors(probe(z.clone()), true) for kind, z in latents.items()}
    for kind, chosen in kinds.items():
        if chosen.any():
            rows[kind] = {name: error[torch.from_numpy(chosen)] for name, error in rows["as they are"].items()}
    return [
        f"| {name} | {kind} | {len(next(iter(errors.values())))} | "
        + " | ".join(f"{float(e.median()):.1f} / {float(e.quantile(0.95)):.1f}" for e in errors.values())
        + " |"
        for kind, errors in rows.items()
    ]


def without_proposals(model: Any) -> Any:
    """A copy of the model that makes none."""
    changed = copy.deepcopy(model)
    changed.proposes = False
    return changed


def agent(model: Any, planner: str = "grasp") -> GRASPAgent:
    with make_env(ENV) as env:
        space = env.action_space
    return GRASPAgent(model, space, planner_for(planner, model))


ROW = re.compile(r"(pose|strict)_(\d+)_(\w+)|disturbed_(\w+)")


def table(out: Path) -> str:
    """All rows that the folder holds, whichever run played them."""
    lines = [
        "| success | steps to goal | entrant | episodes | success % | at the end % | steps to success |",
        "|---|---|---|---|---|---|---|",
    ]
    played = [(found, folder) for folder in out.iterdir() if (found := ROW.fullmatch(folder.name))]
    for found, folder in sorted(
        played, key=lambda row: (row[0][4] or "", row[0][1] or "", int(row[0][2] or 0), row[0][3] or "")
    ):
        success, distance, name, disturbance = found.groups()
        rows = tuple(read_rows(folder / "results.csv", EpisodeResult))
        (entry,) = Results({"entrants": [rows[0].entrant]}, rows).summary()
        assert entry.success is not None and entry.success_final is not None
        shares = [
            f"{100 * x.value:.1f} [{100 * x.low:.0f}, {100 * x.high:.0f}]" for x in (entry.success, entry.success_final)
        ]
        what = f"pose, {disturbance} | {DISTANCES[0]} | grasp" if disturbance else f"{success} | {distance} | {name}"
        lines.append(f"| {what} | {len(rows)} | {' | '.join(shares)} | {entry.median_steps_to_success} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pusht", help="a shipped name, a folder or a hub id")
    parser.add_argument("--out", type=Path, required=True, help="results folder")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts; default all")
    parser.add_argument("--data", type=Path, action="append", help="recorded episodes, for the part encoder")
    parser.add_argument("--entrant", choices=("grasp", "alone", "prior"), action="append", help="default all")
    parser.add_argument("--distance", type=int, action="append", help="expert steps to the goal; default 25, 50, 80")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=50, help="episodes planned side by side")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_world_model(options.model)
    makers = {
        "grasp": lambda: agent(model),
        "alone": lambda: agent(without_proposals(model)),
        "prior": lambda: agent(model, "prior"),
    }
    names = options.entrant or [name for name in makers if name == "alone" or proposes(model)]
    seeds = range(options.seed, options.seed + options.episodes)

    def play(folder: str, entrants: dict[str, Any], distance: int, success: str) -> None:
        kwargs = {"goal_horizon": distance, "success": success}
        out = options.out / folder
        print(f"{folder}: {', '.join(entrants)}", flush=True)
        evaluate(entrants, ENV, seeds, env_kwargs=kwargs, out=out, batch=options.batch)
        write_text(options.out / "table.md", table(options.out))
        print((options.out / "table.md").read_text(), flush=True)

    parts = options.only or [part for part in PARTS if part != "encoder" or options.data]
    for success in ("pose", "strict"):
        for distance in (options.distance or DISTANCES) if success in parts else ():
            for name in names:  # a folder each, so that entrants can be added later
                play(f"{success}_{distance}_{name}", {name: makers[name]()}, distance, success)
    if "disturbed" in parts:
        for name in DISTURBANCES:
            play(f"disturbed_{name}", {name: agent(disturbed(model, name))}, DISTANCES[0], "pose")
    if "encoder" in parts:
        data = EpisodeDataset(*options.data)
        head = ["| model | frames | count | pusher px | block px | block degrees |", "|---|---|---|---|---|---|"]
        rows = [row for name in dict.fromkeys((options.model, "pusht-pose")) for row in encoder_errors(name, data)]
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "encoder.md", "\n".join([*head, *rows]) + "\n")
        print((options.out / "encoder.md").read_text())


if __name__ == "__main__":
    main()
