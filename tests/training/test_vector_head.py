"""The script that learns a vector on the cells of a grid: what it keeps, what it changes, and that it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import JointEmbeddingModel, load_world_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vector_head.py"


@pytest.mark.slow
def test_a_head_is_learnt_on_cells_that_stay(tmp_path: Path) -> None:
    def run(steps: int) -> JointEmbeddingModel:
        settings = ["--share", "0.01", "--steps", str(steps), "--decoder-steps", "2", "--batch", "8"]
        subprocess.run([sys.executable, str(SCRIPT), "--out", str(tmp_path), *settings], check=True)
        model = load_world_model(tmp_path / "head" / "model")
        assert isinstance(model, JointEmbeddingModel)
        return model

    model, grid = run(6), load_world_model("pusht-grid")
    assert isinstance(grid, JointEmbeddingModel)
    frames = torch.from_numpy(EpisodeDataset(tmp_path / "expert").frames(np.arange(0, 200, 20)))
    images = model.whitening(frames)
    with torch.no_grad():
        cells = model.encoder[1].cells(model.encoder[0](images))
        torch.testing.assert_close(cells.flatten(2).transpose(1, 2), grid.encode(frames), atol=1e-2, rtol=0.0)
        saved = np.load(tmp_path / "head" / "cells.npy")
        torch.testing.assert_close(torch.from_numpy(saved[:200:20]).float(), grid.encode(frames), atol=1e-2, rtol=0.0)
    components = np.load(tmp_path / "head" / "components.npy").astype(np.float64)
    assert 0.5 < np.square(components).mean() < 2.0
    spread = np.square(components).mean(0)
    assert spread[0] > 2 * spread[20] > 4 * spread[200], "evened out, and not made equal"
    again = run(6)  # trained already: nothing changes
    for name, values in model.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name
