"""One resumable optimisation loop for all stages of training.

The batch of a step depends on (seed, step) only, so a run that was killed and resumed sees the batches it would
have seen, and ends with the same weights.
"""

from __future__ import annotations

import json
import math
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from grasp_agent.files.atomic import replacing, write_text

Batch = tuple[Tensor, ...]
Losses = dict[str, Tensor]
"""Named loss terms; "loss" is the one that is minimised."""
OnLog = Callable[[str, int, int, dict[str, float]], None]
"""Told (stage name, step, steps, averaged loss terms)."""

LOG_NAME = "log.jsonl"


class TrainingTask(Protocol):
    """What a stage optimises."""

    @property
    def module(self) -> nn.Module:
        """Its parameters are trained."""
        ...

    def draw(self, generator: np.random.Generator) -> Batch:
        """The batch of a step, a function of the generator alone."""
        ...

    def losses(self, batch: Batch, progress: float) -> Losses:
        """Loss terms of a batch, `progress` going from 0 to 1."""
        ...


@dataclass(frozen=True)
class Stage:
    """How long and how fast one stage learns.

    Attributes:
        name: of its files and log lines.
        steps: optimiser steps; 0 keeps what is there.
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
        for name in ("batch", "learning_rate", "clip", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{self.name}.{name}: expected a positive number, got {getattr(self, name)}")
        if self.steps < 0:
            raise ValueError(f"{self.name}.steps: expected 0 or more, got {self.steps}")


def run_stage(
    stage: Stage,
    task: TrainingTask,
    folder: Path,
    seed: int,
    on_log: OnLog | None = None,
    half_precision: bool = False,
) -> None:
    """Train the task's module in place, resuming from `folder` if it holds a checkpoint of this stage.

    Args:
        stage: the schedule.
        task: what is trained, on which batches, and how it is judged.
        folder: where `<name>.pt` (training state) and `log.jsonl` are written.
        seed: of the batches.
        on_log: called with (stage name, step, steps, averaged terms) every `log_every` steps and after the last.
        half_precision: bfloat16 autocast (worth it on a GPU).

    Raises:
        ValueError: the loss is not finite (the last checkpoint is from before), or the checkpoint in `folder` cannot
            be continued.
    """
    module = task.module
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
    _forget_log(folder, stage.name, step)

    def batch_of(number: int) -> Batch:
        return task.draw(np.random.default_rng([seed, number]))

    module.train()
    sums: dict[str, float] = {}
    summed = 0
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
                terms = task.losses(batch, step / stage.steps)
            values = {name: float(value.detach()) for name, value in terms.items()}
            if not math.isfinite(values["loss"]):
                raise ValueError(
                    f"training stage {stage.name!r}: the loss is {values['loss']} at step {step + 1}; "
                    "try a lower learning rate, and check the data for NaN"
                )
            optimiser.zero_grad(set_to_none=True)
            terms["loss"].backward()
            nn.utils.clip_grad_norm_(module.parameters(), stage.clip)
            optimiser.step()
            step += 1
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            summed += 1
            if step % stage.log_every == 0 or step == stage.steps:
                means = {name: value / summed for name, value in sums.items()}
                sums, summed = {}, 0
                append_log(folder, {"stage": stage.name, "step": step, **means})
                if on_log:
                    on_log(stage.name, step, stage.steps, means)
            if step == stage.steps or time.monotonic() - saved > stage.checkpoint_seconds:
                _save(path, module, optimiser, step, stage)
                saved = time.monotonic()
    module.eval()


def append_log(folder: Path, row: dict[str, Any]) -> None:
    """Add one line to log.jsonl."""
    with open(folder / LOG_NAME, "a") as file:
        file.write(json.dumps(row) + "\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; a line that a kill cut off is left out."""
    path = folder / LOG_NAME
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("stage"), str) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _forget_log(folder: Path, stage: str, step: int) -> None:
    """Drop the stage's lines after its checkpoint, which it is about to write again."""
    rows = [row for row in read_log(folder) if row["stage"] != stage or row["step"] <= step]
    write_text(folder / LOG_NAME, "".join(json.dumps(row) + "\n" for row in rows))


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, stage: Stage) -> None:
    state = {
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "steps": stage.steps,
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _resume(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device, stage: Stage) -> int:
    """Load the checkpoint if there is one, and return the steps already made."""
    if not path.is_file():
        return 0
    advice = "choose a new output folder"
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch does not compare the checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"its {damaged} is not what was written")
        state = torch.load(path, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        step, steps = int(state["step"]), int(state["steps"])
    except Exception as error:  # a damaged archive can fail in any way
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: cannot be continued, damaged or not of this training ({first}); {advice}") from None
    if steps != stage.steps:
        raise ValueError(f"{path}: was begun with {steps} steps, now {stage.steps} are asked for; {advice}")
    return step
