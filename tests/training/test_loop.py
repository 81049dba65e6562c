"""The optimisation loop: it learns, stops at numbers that are none, and resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grasp_agent.training.loop import Batch, Losses, Stage, read_log, run_stage

TRUTH = torch.tensor([[2.0], [-1.0], [0.5]])
STAGE = Stage("fit", steps=300, batch=32, learning_rate=0.05, weight_decay=0.0, checkpoint_seconds=1e-9, log_every=50)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


class Fit:
    """A linear regression; the call number `interrupt` raises, the call number `nan` is not finite."""

    def __init__(self, module: nn.Module, interrupt: int = -1, nan: int = -1) -> None:
        self.module, self.interrupt, self.nan, self.calls = module, interrupt, nan, 0

    def draw(self, generator: np.random.Generator) -> Batch:
        inputs = torch.from_numpy(generator.normal(size=(32, 3))).float()
        return inputs, inputs @ TRUTH + 3.0

    def losses(self, batch: Batch, progress: float) -> Losses:
        self.calls += 1
        if self.calls == self.interrupt:
            raise KeyboardInterrupt
        loss = (self.module(batch[0]) - batch[1]).square().mean()
        return {"loss": loss * float("nan") if self.calls == self.nan else loss}


def test_a_learnable_problem_is_learnt(tmp_path: Path) -> None:
    module = linear()
    seen: list[tuple[int, int]] = []
    stage = replace(STAGE, checkpoint_seconds=60.0)
    run_stage(stage, Fit(module), tmp_path, seed=1, on_log=lambda _, step, n, __: seen.append((step, n)))
    torch.testing.assert_close(module.weight.detach().T, TRUTH, atol=0.02, rtol=0.0)
    assert float(module.bias.detach()) == pytest.approx(3.0, abs=0.02)
    assert seen == [(step, 300) for step in range(50, 301, 50)]
    losses = [row["loss"] for row in read_log(tmp_path)]
    assert losses[-1] < 1e-3 < 1.0 < losses[0]


def test_the_last_steps_are_logged_even_if_few(tmp_path: Path) -> None:
    module = linear()
    run_stage(replace(STAGE, steps=3), Fit(module), tmp_path, seed=1)
    assert [row["step"] for row in read_log(tmp_path)] == [3]


@pytest.mark.parametrize("interrupt", [1, 60, 149])
def test_an_interrupted_stage_ends_with_the_same_weights_and_log(tmp_path: Path, interrupt: int) -> None:
    stage = replace(STAGE, steps=150)
    whole, stopped, resumed = linear(), linear(), linear()
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    run_stage(stage, Fit(whole), tmp_path / "whole", seed=1)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, Fit(stopped, interrupt), tmp_path / "parts", seed=1)
    with open(tmp_path / "parts" / "log.jsonl", "a") as log:
        log.write('{"stage": "fit", "step": 150, "loss": 1.0}\n{"stage": "fit", "st')  # a checkpoint ago, and cut off
    again = Fit(resumed)
    run_stage(stage, again, tmp_path / "parts", seed=1)
    assert again.calls == 150 - (interrupt - 1)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in read_log(tmp_path / "parts")] == [50, 100, 150]
    run_stage(stage, again, tmp_path / "parts", seed=1)
    assert again.calls == 150 - (interrupt - 1), "a finished stage is not run again"


def test_a_loss_that_is_no_number_stops_before_it_does_harm(tmp_path: Path) -> None:
    module = linear()
    with pytest.raises(ValueError, match=r"stage 'fit': the loss is nan at step 7; try a lower learning rate"):
        run_stage(STAGE, Fit(module, nan=7), tmp_path, seed=1)
    saved = torch.load(tmp_path / "fit.pt", weights_only=True)
    assert saved["step"] == 6 and all(bool(x.isfinite().all()) for x in saved["module"].values())


def test_checkpoints_that_cannot_be_continued_are_refused(tmp_path: Path) -> None:
    module = linear()
    run_stage(replace(STAGE, steps=3), Fit(module), tmp_path, seed=1)
    path = tmp_path / "fit.pt"
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"begun with 3 steps, now 4 are asked for; choose a new output folder"):
        run_stage(replace(STAGE, steps=4), Fit(module), tmp_path, seed=1)
    other = nn.Linear(5, 1)
    with pytest.raises(ValueError, match="damaged or not of this training"):
        run_stage(replace(STAGE, steps=3), Fit(other), tmp_path, seed=1)
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"fit\.pt: cannot be continued, damaged"):
            run_stage(replace(STAGE, steps=3), Fit(module), tmp_path, seed=1)
        assert path.read_bytes() == content
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"fit\.pt: cannot be continued, damaged"):
        run_stage(replace(STAGE, steps=3), Fit(module), tmp_path, seed=1)


@pytest.mark.parametrize("name", ["batch", "learning_rate", "clip", "log_every"])
def test_schedules_that_make_no_sense(name: str) -> None:
    with pytest.raises(ValueError, match=rf"fit\.{name}: expected a positive number, got 0"):
        replace(STAGE, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"fit\.steps: expected 0 or more, got -1"):
        replace(STAGE, steps=-1)
