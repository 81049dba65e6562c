"""One resumable optimisation loop for all stages of training.

The batch of a step depends on (seed, step) only, so a run that was killed and resumed sees the batches it would have seen.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Losses = dict[str, Tensor]
"""Named loss terms; "loss" is the one that is minimised."""


@dataclass(frozen=True)
class Stage:
    """How long and how fast one stage learns.

    Attributes:
        name: of its files and log lines.
        steps: optimiser steps.
        batch: samples per step.
        learning_rate: peak, after a linear warm-up of 2 % of the steps; cosine decay to zero.
        weight_decay: of AdamW.
        clip: gradient norm limit.
        checkpoint_seconds: how often the state of training is written.
        log_every: steps between log lines.
    """

    name: str
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 1e-4
    clip: float = 1.0
    checkpoint_seconds: float = 60.0
    log_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate", "clip", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{self.name}.{name}: expected a positive number, got {getattr(self, name)}")


def run_stage(
    stage: Stage,
    module: nn.Module,
    draw: Callable[[np.random.Generator], Batch],
    losses: Callable[[Batch, float], Losses],
    folder: Path,
    seed: int,
    on_log: Callable[[str, int, int, dict[str, float]], None] | None = None,
    half_precision: bool = False,
) -> None:
    """Train `module` in place, resuming from `folder` if it holds a checkpoint of this stage.

    Args:
        stage: the schedule.
        module: parameters to train.
        draw: makes the batch of a step from a generator.
        losses: (batch, progress 0..1) -> loss terms.
        folder: where `<name>.pt` (training state) and `log.jsonl` are written.
        seed: of the batches.
        on_log: called with (stage name, step, steps, averaged terms) every `log_every` steps.
        half_precision: bfloat16 autocast (worth it on a GPU).
    """
    device = next(module.parameters()).device
    optimiser = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=stage.learning_rate,
        weight_decay=stage.weight_decay,
    )
    path = folder / f"{stage.name}.pt"
    step = _resume(path, module, optimiser, device, stage)
    if step >= stage.steps:
        return

    def batch_of(number: int) -> Batch:
        return draw(np.random.default_rng([seed, number]))

    module.train()
    sums: dict[str, float] = {}
    saved = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(batch_of, step)
        while step < stage.steps:
            batch = tuple(x.to(device, non_blocking=True) for x in upcoming.result())
            if step + 1 < stage.steps:
                upcoming = pool.submit(batch_of, step + 1)
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * _schedule(step, stage.steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
                terms = losses(batch, step / stage.steps)
            optimiser.zero_grad(set_to_none=True)
            terms["loss"].backward()
            nn.utils.clip_grad_norm_(module.parameters(), stage.clip)
            optimiser.step()
            step += 1
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            if step % stage.log_every == 0:
                means = {name: value / stage.log_every for name, value in sums.items()}
                sums = {}
                if not math.isfinite(means["loss"]):
                    raise ValueError(
                        f"training stage {stage.name!r}: the loss is {means['loss']} at step {step}; "
                        "try a lower learning rate, and check the data for NaN"
                    )
                append_log(folder, {"stage": stage.name, "step": step, **means})
                if on_log:
                    on_log(stage.name, step, stage.steps, means)
            if step == stage.steps or time.monotonic() - saved > stage.checkpoint_seconds:
                _save(path, module, optimiser, step, stage)
                saved = time.monotonic()
    module.eval()


def append_log(folder: Path, row: dict[str, Any]) -> None:
    """Add one line to log.jsonl."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, stage: Stage) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "steps": stage.steps,
    }
    torch.save(state, temporary)
    os.replace(temporary, path)


def _resume(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device, stage: Stage
) -> int:
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: does not fit this training ({first}); choose a new output folder"
        ) from None
    if state["steps"] != stage.steps:
        raise ValueError(
            f"{path}: was begun with {state['steps']} steps, now {stage.steps} are asked for; choose a new output folder"
        )
    return int(state["step"])
