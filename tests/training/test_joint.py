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
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import JointEmbeddingModel, load_world_model
from grasp_agent.training import RECIPES, JointRecipe, train
from grasp_agent.training.joint import JointTask, JointWeights, reconstruction, sigreg
from grasp_agent.training.loop import read_log, run_stage
from grasp_agent.training.probes import fit_probes

MakeRecipe = Callable[..., JointRecipe]
EPISODES = np.arange(6)


def task_of(recipe: JointRecipe, data: EpisodeDataset, batch: int = 8) -> JointTask:
    """The first stage's task on a newly drawn model."""
    torch.manual_seed(0)
    model = recipe.build(data, EPISODES, np.array([6, 7]))
    return JointTask(model, data, EPISODES, batch, recipe.weights, recipe.joint_unroll)


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


def test_samples_together_and_apart(pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    """Gaussian windows, still or moving, are as good if each time is a sample; in one sample those that move win."""
    still = normal(16, 8).expand(10, 16, 8)
    moving = normal(160, 8, seed=1).view(10, 16, 8)
    directions = normal(256, 8, seed=2)
    assert float(sigreg(still, directions)) == pytest.approx(float(sigreg(moving, directions)), rel=0.2)
    assert float(sigreg(still.flatten(0, 1), directions)) > 5 * float(sigreg(moving.flatten(0, 1), directions))

    task = task_of(tiny_joint(), pusht_data)
    task.model.eval()
    numbers, place, actions, directions = task.draw(np.random.default_rng(0))
    with torch.no_grad():
        latents = task.model.encode(torch.from_numpy(pusht_data.frames(numbers.numpy())))
        each = [float(sigreg(latents[place][:, t], directions)) for t in range(place.shape[1])]
        apart = task.losses((numbers, place, actions, directions), 0.5)["sigreg"]
        together = task.losses((numbers, place, actions, directions), 0.49)["sigreg"]
    assert float(apart) == pytest.approx(np.mean(each), rel=1e-4)
    assert float(together) == pytest.approx(float(sigreg(latents, directions)), rel=1e-4)


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


def test_windows_of_images_are_the_frames_of_the_data(pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    task = task_of(tiny_joint(), pusht_data, batch=40)
    distinct, place, actions, directions = task.draw(np.random.default_rng(3))
    assert place.shape == (40, 3 + 2) and actions.shape == (40, 3 + 2 - 1, 5 * 2)
    assert len(distinct) == len(place.unique()) == len(distinct.unique()) and directions.shape[1] == 8
    present = torch.from_numpy(np.random.default_rng(3).choice(task.presents, 40))
    assert bool((present < pusht_data.starts[6]).all())
    numbers, wanted = task.numbers(present, 2)
    assert torch.equal(actions, wanted)
    assert torch.equal(distinct[place], numbers)
    assert torch.equal(task.images(distinct), torch.from_numpy(pusht_data.frames(distinct.numpy())))


@pytest.mark.parametrize("grid", [False, True])
def test_every_term_by_hand(grid: bool, pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    recipe = tiny_joint(grid, sigreg=2.0, inverse=3.0, straightening=5.0, reconstruction=7.0)
    task = task_of(recipe, pusht_data)
    model = task.model.eval()
    batch = task.draw(np.random.default_rng(0))
    with torch.no_grad():
        terms = {name: float(term) for name, term in task.losses(batch, 0.6).items()}
        numbers, place, actions, _ = batch
        frames = torch.from_numpy(pusht_data.frames(numbers.numpy()))
        z = model.encode(frames)
        states = z[place]
        first = model.predict(states[:, :3], actions[:, :3])
        second = model.predict(torch.stack([states[:, 1], states[:, 2], first], 1), actions[:, 1:4])
        prediction = ((first - states[:, 3]).square().mean() + (second - states[:, 4]).square().mean()) / 2
        moves = (actions.view(8, 4, 5, 2) - model.action_mean) / model.action_std
        gaps = [
            (model.inverse(states[:, t], states[:, t + 1]) - moves[:, t].flatten(1)).square().mean() for t in range(4)
        ]
        drawn = reconstruction(model.drawn(z), model.whitening(frames))
    assert terms["prediction"] == pytest.approx(float(prediction), rel=1e-4)
    assert terms["inverse"] == pytest.approx(float(torch.stack(gaps).mean()), rel=1e-4)
    assert terms["reconstruction"] == pytest.approx(float(drawn), rel=1e-4)
    weighted = {"prediction": 1.0, "sigreg": 2.0, "inverse": 3.0, "bend": 5.0, "reconstruction": 7.0}
    assert terms["loss"] == pytest.approx(sum(w * terms[name] for name, w in weighted.items()), rel=1e-4)


def test_straight_paths_do_not_bend(pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    """1 - cos is 0 where a latent goes straight on, 1 at a right angle, 2 where it turns back."""
    task = task_of(tiny_joint(sigreg=0.0, inverse=0.0, straightening=1.0), pusht_data, batch=1)
    _, _, actions, directions = task.draw(np.random.default_rng(0))
    ways = {0.0: [0, 1, 2, 3, 4], 2.0: [0, 1, 0, 1, 0], 4 / 3: [0, 1, 0, 1, 2]}
    for bend, way in ways.items():
        latents = torch.tensor(way, dtype=torch.float32)[:, None] * torch.arange(1.0, 9.0)
        task.model.encoder = _Fixed(latents)
        with torch.no_grad():
            terms = task.losses((torch.arange(5), torch.arange(5)[None], actions, directions), 0.0)
        assert float(terms["bend"]) == pytest.approx(bend, abs=1e-5)


class _Fixed(torch.nn.Module):
    """An encoder that says what it was told."""

    def __init__(self, latents: torch.Tensor) -> None:
        super().__init__()
        self.latents = latents

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.latents


def test_coarse_resolutions_weigh_more() -> None:
    even, odd = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    even += 0.5  # the same gap at every scale
    odd[..., ::2] = 0.5  # gone at the first halving but for its mean
    nothing = torch.zeros(1, 3, 16, 16)
    assert float(reconstruction(even, nothing)) == pytest.approx(0.25 * (1 + 2 + 4 + 8))
    assert float(reconstruction(odd, nothing)) == pytest.approx(0.125 + 0.0625 * (2 + 4 + 8))


def test_a_decoder_without_weight_shapes_no_latent(pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    for weight in (0.0, 1.0):
        task = task_of(tiny_joint(reconstruction=weight), pusht_data)
        terms = task.losses(task.draw(np.random.default_rng(0)), 0.0)
        terms["reconstruction"].backward()
        model = task.model
        assert model.decoder is not None and all(p.grad is not None for p in model.decoder.parameters())
        assert all(p.grad is None for part in (model.dynamics, model.inverse) for p in part.parameters())
        assert any(p.grad is not None for p in model.encoder.parameters()) == bool(weight)


def test_prediction_alone_folds_the_latent_and_the_regulariser_prevents_it(
    pusht_data: EpisodeDataset, tiny_joint: MakeRecipe, tmp_path: Path
) -> None:
    """Batch normalisation keeps the size of every number; that they differ from each other is the regulariser's."""
    frames = torch.from_numpy(pusht_data.frames(np.arange(0, 248, 2)))
    ranks = {}
    for weight in (0.0, 10.0):
        recipe = tiny_joint(steps=120, sigreg=weight, inverse=0.0, straightening=0.0)
        task = task_of(recipe, pusht_data, batch=32)
        folder = tmp_path / str(weight)
        folder.mkdir()
        run_stage(recipe.encoder, task, folder, seed=0)
        with torch.no_grad():
            values = torch.linalg.eigvalsh(torch.cov(task.model.encode(frames).T)).clamp_min(0)
        share = values / values.sum()
        ranks[weight] = float((-(share * share.clamp_min(1e-9).log()).sum()).exp())  # of 8
    assert ranks[10.0] > 5.5
    assert ranks[0.0] < 0.7 * ranks[10.0]


def test_a_kept_encoder_does_not_learn_the_statistics_of_batches(
    pusht_data: EpisodeDataset, tiny_joint: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_joint(steps=4)
    train(pusht_data, recipe, tmp_path / "one")
    further = replace(recipe, encoder=replace(recipe.encoder, steps=0))
    train(pusht_data, further, tmp_path / "two", initial=tmp_path / "one" / "model")
    one, two = (load_world_model(tmp_path / name / "model").state_dict() for name in ("one", "two"))
    kept = [name for name in one if name.startswith(("encoder.", "whitening."))]
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(one[name], two[name]) for name in kept)
    assert any(not torch.equal(one[name], two[name]) for name in one if name.startswith("dynamics."))


def test_weights_are_checked() -> None:
    with pytest.raises(ValueError, match=r"weights\.inverse: expected 0 or more, got -1"):
        JointWeights(inverse=-1)
    with pytest.raises(ValueError, match=r"weights\.noise: expected 0 or more, got nan"):
        JointWeights(noise=math.nan)


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
    pusht_data: EpisodeDataset, tiny_joint: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_joint(reconstruction=1.0, noise=0.1)
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
    pusht_data: EpisodeDataset, tiny_joint: MakeRecipe, tmp_path: Path
) -> None:
    """Without them the same model comes out; only the figures in pixels are missing."""
    recipe = tiny_joint(grid=True, steps=2)
    blind = EpisodeDataset(pusht_data.folder)
    blind.states = None
    seeing = train(pusht_data, recipe, tmp_path / "seeing")
    unseeing = train(blind, recipe, tmp_path / "blind")
    assert seeing.keys() - unseeing.keys() == {"probes", "errors_by_step"}
    models = [load_world_model(tmp_path / name / "model").state_dict() for name in ("seeing", "blind")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_grid_is_trained_by_components_and_read_as_a_grid(
    pusht_data: EpisodeDataset, tiny_joint: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the recipe says of the loss reaches the dynamics, and the probes are told that latents are cells."""
    read: list[int] = []

    def probes(latents: np.ndarray, *arguments: Any) -> Any:
        read.append(latents.ndim)
        return fit_probes(latents, *arguments)

    monkeypatch.setattr("grasp_agent.training.latent.fit_probes", probes)
    train(pusht_data, replace(tiny_joint(grid=True, steps=2), whitened=1.0), tmp_path)
    assert read == [3]
    assert {row["stage"] for row in read_log(tmp_path) if "whitened" in row} == {"dynamics"}


def test_the_named_recipes(pusht_data: EpisodeDataset) -> None:
    for name, shape in (("joint", (128,)), ("joint_grid", (64, 32))):
        recipe = RECIPES[name](pusht_data)
        assert isinstance(recipe, JointRecipe) and recipe.encoder.name == "joint"
        assert recipe.model.image_size == pusht_data.image_size
        assert JointEmbeddingModel(recipe.model).state_shape == shape


def test_what_a_model_takes_from_the_data(pusht_data: EpisodeDataset, tiny_joint: MakeRecipe) -> None:
    recipe = tiny_joint()
    model = recipe.build(pusht_data, EPISODES, np.array([6, 7]))
    moves = np.concatenate(
        [pusht_data.actions[s : s + n - 1] for s, n in zip(pusht_data.starts[:6], pusht_data.lengths[:6], strict=True)]
    )
    assert model.config.action_mean == pytest.approx(moves.mean(0).tolist(), abs=1e-5)
    assert model.config.action_std == pytest.approx(moves.std(0).tolist(), abs=1e-5)
    assert model.action_limit == pytest.approx(np.quantile(np.abs(moves).max(1), 0.999), abs=1e-3)
    images = model.whitening(torch.from_numpy(pusht_data.frames(np.arange(6 * 31))))
    assert float(images.flatten(2).mean((0, 2)).abs().max()) < 0.1
