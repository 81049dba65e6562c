"""Joint training: the regulariser's known answers, what it prevents, and that a killed training goes on."""

from __future__ import annotations

import math
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import LatentWorldModel, load_world_model
from grasp_agent.training import RECIPES, LatentRecipe, train
from grasp_agent.training.joint import JointTask, sigreg, whiten
from grasp_agent.training.loop import read_log, run_stage

MakeRecipe = Callable[..., LatentRecipe]


def distance(characteristic: Callable[[float], float]) -> float:
    """The integral of a one-dimensional distribution that is symmetric about zero, by adaptive quadrature."""

    def integrand(t: float) -> float:
        return (characteristic(t) - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    return float(2 * quad(integrand, 0, 3)[0])


def normal(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_sigreg_of_a_standard_gaussian_is_its_sampling_error() -> None:
    """E |phi_N(t) - phi(t)|^2 = (1 - phi(t)^2) / N for N samples."""
    expected = 2 * quad(lambda t: (1 - math.exp(-t * t)) * math.exp(-t * t / 2), 0, 3)[0]
    for n in (100, 5000):
        values = [float(sigreg(normal(n, 16, seed), normal(64, 16, 99))) for seed in range(10)]
        assert np.mean(values) * n == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("what", "latents", "characteristic"),
    [
        ("collapsed", torch.zeros(8, 1), lambda t: 1.0),
        ("bimodal", torch.tensor([[-1.0], [1.0]]), math.cos),
        ("constant, elsewhere", torch.full((5, 1), 2.0), None),
        ("half as wide", 0.5 * normal(100_000, 1), lambda t: math.exp(-t * t / 8)),
        ("three times as wide", 3.0 * normal(100_000, 1), lambda t: math.exp(-9 * t * t / 2)),
    ],
)
def test_sigreg_of_other_distributions(
    what: str, latents: torch.Tensor, characteristic: Callable[[float], float] | None
) -> None:
    found = float(sigreg(latents, torch.tensor([[-7.0]])))  # directions are normalised
    if characteristic is None:  # |e^{2it} - phi|^2 = 1 - 2 phi cos 2t + phi^2
        integral = quad(
            lambda t: (1 - 2 * math.exp(-t * t / 2) * math.cos(2 * t) + math.exp(-t * t)) * math.exp(-t * t / 2), 0, 3
        )
        expected = 2 * integral[0]
    else:
        expected = distance(characteristic)
    assert found == pytest.approx(expected, rel=0.03), what
    assert found > 0.02


def test_sigreg_sees_one_bad_direction_among_many() -> None:
    good = normal(4000, 8)
    flat, correlated = good.clone(), good.clone()
    flat[:, 3] = 0.0
    correlated[:, 1] = correlated[:, 0]
    directions = normal(128, 8, seed=1)
    fine = float(sigreg(good, directions))
    assert float(sigreg(flat, directions)) > 10 * fine
    assert float(sigreg(correlated, directions)) > 10 * fine


def test_samples_together_and_apart(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe) -> None:
    """Gaussian windows, still or moving, are as good if each time is a sample; in one sample those that move win."""
    still = normal(16, 8).expand(10, 16, 8)
    moving = normal(160, 8, seed=1).view(10, 16, 8)
    directions = normal(256, 8, seed=2)
    assert float(sigreg(still, directions)) == pytest.approx(float(sigreg(moving, directions)), rel=0.2)
    assert float(sigreg(still.flatten(0, 1), directions)) > 5 * float(sigreg(moving.flatten(0, 1), directions))

    torch.manual_seed(0)
    task = JointTask(LatentWorldModel(tiny_recipe("free").model), pusht_data, np.arange(6), 8, regularisation=1.0)
    batch = task.draw(np.random.default_rng(0))
    with torch.no_grad():
        states = task.model.encode(batch[0])[batch[1]]
        each = [float(sigreg(states[:, t], batch[3])) for t in range(states.shape[1])]
        assert float(task.losses(batch, 0.5)["sigreg"]) == pytest.approx(np.mean(each), rel=1e-4)
        together = float(sigreg(task.model.encode(batch[0]), batch[3]))
        assert float(task.losses(batch, 0.49)["sigreg"]) == pytest.approx(together, rel=1e-4)


def test_the_gradient_of_sigreg_spreads_a_collapsed_batch() -> None:
    latents = (0.02 * normal(100, 4) + 0.5).requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=0.1)
    for step in range(120):
        optimiser.zero_grad()
        sigreg(latents, normal(24, 4, seed=step)).backward()
        optimiser.step()
    covariance = torch.cov(latents.detach().T)
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.2, rtol=0.0)
    assert float(latents.detach().mean(0).abs().max()) < 0.1


def test_an_encoder_begins_with_white_latents(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe) -> None:
    torch.manual_seed(0)
    encoder = LatentWorldModel(tiny_recipe("free").model).encoder
    frames = torch.from_numpy(pusht_data.frames(np.arange(0, 248, 2)))
    with torch.no_grad():
        assert float(encoder(frames).std(0).max()) < 0.05  # all frames in one point
        whiten(encoder, frames)
        latents = encoder(frames)
    assert float(latents.mean(0).abs().max()) < 1e-3
    torch.testing.assert_close(torch.cov(latents.T, correction=0), torch.eye(8), atol=1e-2, rtol=0.0)


def test_windows_of_images_are_the_frames_of_the_data(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe) -> None:
    model = LatentWorldModel(tiny_recipe("free").model)
    task = JointTask(model, pusht_data, np.arange(6), batch=40, regularisation=1.0, unroll=2)
    images, place, actions, directions = task.draw(np.random.default_rng(3))
    assert images.dtype == torch.uint8 and place.shape == (40, 3 + 2) and actions.shape == (40, 3 + 2 - 1, 5 * 2)
    assert len(images) == len(place.unique()) and directions.shape[1] == 8
    present = torch.from_numpy(np.random.default_rng(3).choice(task.presents, 40))
    assert bool((present < pusht_data.starts[6]).all())
    numbers, wanted = task.numbers(present, 2)
    assert torch.equal(actions, wanted)
    assert torch.equal(images[place[:, 2]], torch.from_numpy(pusht_data.frames(present.numpy())))
    assert torch.equal(images[place[:, 4]], torch.from_numpy(pusht_data.frames(numbers[:, 4].numpy())))


def test_the_decoder_shapes_no_latent(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe) -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(tiny_recipe("free").model)
    task = JointTask(model, pusht_data, np.arange(6), batch=8, regularisation=1.0)
    terms = task.losses(task.draw(np.random.default_rng(0)), 0.0)
    values = {name: float(term.detach()) for name, term in terms.items()}
    assert values.pop("loss") == pytest.approx(sum(values.values()), rel=1e-5)
    terms["reconstruction"].backward()
    assert model.decoder is not None
    assert all(p.grad is None for part in (model.encoder, model.dynamics) for p in part.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_prediction_alone_collapses_and_the_regulariser_prevents_it(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("free", representation="joint")
    frames = torch.from_numpy(pusht_data.frames(np.arange(0, 248, 2)))
    stage = replace(recipe.encoder, steps=60, learning_rate=1e-2, checkpoint_seconds=60.0)
    spreads = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model = LatentWorldModel(recipe.model)
        whiten(model.encoder, frames)
        task = JointTask(model, pusht_data, np.arange(6), batch=16, regularisation=weight)
        run_stage(replace(stage, name=f"joint {weight}"), task, tmp_path, seed=0)
        with torch.no_grad():
            spreads[weight] = float(model.encode(frames).var(0).mean())
    assert spreads[0.0] < 0.02
    assert 0.2 < spreads[10.0] < 2.0


KILLED = """
import os, pickle, signal, sys
import torch
from grasp_agent.data import EpisodeDataset
from grasp_agent.training import LatentRecipe, train
torch.set_num_threads(1)
data, out, recipe = pickle.loads(sys.stdin.buffer.read())
def on_log(now, number, steps, terms):
    if (now, number) == ("joint", 4):
        os.kill(os.getpid(), signal.SIGKILL)
train(EpisodeDataset(data), recipe, out, on_log=on_log)
"""


def test_a_killed_joint_training_ends_as_if_nothing_had_happened(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("free", representation="joint")
    recipe = replace(recipe, encoder=replace(recipe.encoder, name="joint"))
    messages: list[str] = []
    whole = train(pusht_data, recipe, tmp_path / "whole", on_message=messages.append)
    assert messages[0] == "stage 1 of 2, encoder and dynamics: 6 steps of 16 windows"
    assert {"prediction", "sigreg", "reconstruction"} < read_log(tmp_path / "whole")[0].keys()

    job = pickle.dumps((str(pusht_data.folder), str(tmp_path / "parts"), recipe))
    killed = subprocess.run([sys.executable, "-c", KILLED], input=job, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed: list[tuple[str, int]] = []
    parts = train(pusht_data, recipe, tmp_path / "parts", on_log=lambda name, step, *_: resumed.append((name, step)))
    assert resumed[0] == ("joint", 4) and resumed[-1] == ("dynamics", 6)
    assert parts == whole
    models = [load_world_model(tmp_path / name / "model").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_states_of_the_data_are_never_read_in_training(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Without them the same model comes out; only the figures in pixels are missing."""
    recipe = tiny_recipe("free", steps=2, representation="joint")
    blind = EpisodeDataset(pusht_data.folder)
    blind.states = None
    seeing = train(pusht_data, recipe, tmp_path / "seeing")
    unseeing = train(blind, recipe, tmp_path / "blind")
    assert seeing.keys() - unseeing.keys() == {"probes", "errors_by_step"}
    models = [load_world_model(tmp_path / name / "model").state_dict() for name in ("seeing", "blind")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_named_recipe(pusht_data: EpisodeDataset) -> None:
    recipe = RECIPES["joint"](pusht_data)
    assert isinstance(recipe, LatentRecipe)
    assert recipe.representation == "joint" and recipe.encoder.name == "joint" and recipe.model.layout == "free"
