"""Probes: maps they must recover, errors they must report, and that nothing is read where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_agent.models import PLANAR_PUSH
from grasp_agent.models.planar_push import CENTRE
from grasp_agent.training.probes import fit_linear, fit_mlp, fit_probes
from grasp_agent.training.report import metrics_table, probe_errors, probes_sentence


def poses(frames: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [generator.uniform(60, 450, (frames, 4)), generator.uniform(-np.pi, np.pi, (frames, 1))], axis=1
    )


def test_the_linear_probe_recovers_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = 3.0 + torch.randn(400, 5, generator=generator) * torch.tensor([1e-2, 1.0, 100.0, 1.0, 0.0])
    weight, bias = torch.tensor([[50.0, 1.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.03, 1.0, 9.0]]), torch.tensor([4.0, -1.0])
    probe = fit_linear(latents[:300], latents[:300] @ weight.T + bias, alpha=1e-9)
    torch.testing.assert_close(probe(latents[300:]), latents[300:] @ weight.T + bias, rtol=1e-3, atol=1e-3)
    assert probe(latents.view(4, 100, 5)).shape == (4, 100, 2)


def test_the_ridge_shrinks_as_ridge_regression_does() -> None:
    """One standardised number read with ridge alpha has the slope 1 / (1 + alpha)."""
    latents = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    probe = fit_linear(latents, 3.0 * latents + 2.0, alpha=0.5)
    assert probe(torch.tensor([[0.0], [1.0]])).flatten().tolist() == pytest.approx([2.0, 2.0 + 3.0 / 1.5])


def test_the_mlp_reads_what_is_folded() -> None:
    """|x| and x^2 have no linear part: a linear probe reports their mean, the MLP reads them."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3000, 2, generator=generator)
    targets = torch.stack([latents[:, 0].abs(), 5.0 * latents[:, 1].square()], 1)
    errors = {}
    for name, fit in (("linear", fit_linear), ("mlp", fit_mlp)):
        read = fit(latents[:2500], targets[:2500])(latents[2500:])
        errors[name] = ((read - targets[2500:]).std(0) / targets[2500:].std(0)).tolist()
    assert min(errors["linear"]) > 0.9
    assert max(errors["mlp"]) < 0.2


def bumps(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Grids of 8 x 8 cells [F, 64, 3] that show a bright bump, a faint one and noise; the places of both, [F, 4]."""
    generator = np.random.default_rng(0)
    places = generator.uniform(0, 8, (frames, 4))
    cells = np.stack(np.meshgrid(*[np.arange(8) + 0.5] * 2, indexing="ij"), axis=-1).reshape(64, 2)
    bright, faint = (np.exp(-((cells - place[:, None]) ** 2).sum(-1)) for place in (places[:, :2], places[:, 2:]))
    grids = np.stack([10 * bright, faint, generator.standard_normal((frames, 64))], axis=-1)
    return grids.astype(np.float32), places.astype(np.float32)


def test_a_grid_is_read_by_convolutions() -> None:
    """What lies where in a grid is learnt from fewer frames than by a network that does not know which cells touch."""
    grids, places = bumps(1500)
    errors = {}
    for name, latents in (("grid", grids), ("row", grids.reshape(1500, -1))):
        read = fit_probes(latents, places, np.arange(1200))["network"](torch.from_numpy(grids[1200:]).flatten(1))
        errors[name] = float((read - torch.from_numpy(places[1200:])).abs().mean())
    assert errors["grid"] < 0.7 * errors["row"] < 0.35


def test_fitting_is_determined_by_its_seed_and_leaves_the_callers_random_numbers_alone() -> None:
    latents, targets = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), torch.arange(200.0)[:, None]
    before = torch.random.get_rng_state()
    first, again, other = (fit_mlp(latents, targets, seed=seed)(latents) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pose_probes_report_known_errors() -> None:
    """Latents that hold the pose without the angle: the places are read, the angle is a guess (90 degrees off)."""
    states = poses(3000)
    truth = PLANAR_PUSH.latents_of_states(states)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    latents = ((states[:, :4] - 100.0) @ turn / 30.0).astype(np.float32)
    probes = fit_probes(latents, truth, np.arange(2500))
    held_out = np.arange(2500, 3000)
    errors = probe_errors(probes, latents, truth, PLANAR_PUSH, held_out)
    assert list(errors) == ["linear", "network"]
    assert errors["linear"]["pusher_px"]["median"] < 0.1 and errors["linear"]["body_px"]["mean"] < 0.1
    assert errors["network"]["pusher_px"]["median"] < 15
    for name in errors:
        assert 70 < errors[name]["body_deg"]["median"] < 110

    # what `probe_errors` reports is the distance to the truth: a read-out that is 30 px and 40 px off is 50 px off
    beside = states.copy()
    beside[:, 0:2] += (30.0, 40.0)
    beside[:, 4] += 0.5
    exact = PLANAR_PUSH.latents_of_states(beside)
    known = probe_errors({"itself": lambda latents: latents}, exact, truth, PLANAR_PUSH, held_out)["itself"]
    assert known["pusher_px"] == pytest.approx({"median": 50.0, "mean": 50.0}, abs=1e-2)
    assert known["body_px"]["mean"] == pytest.approx(0.0, abs=1e-2)
    assert known["body_deg"]["mean"] == pytest.approx(np.rad2deg(0.5), abs=1e-2)


def test_a_latent_that_knows_nothing_reads_as_the_mean_pose() -> None:
    truth = PLANAR_PUSH.latents_of_states(poses(1000))
    errors = probe_errors(
        fit_probes(np.ones((1000, 8), np.float32), truth, np.arange(800)),
        np.ones((1000, 8), np.float32),
        truth,
        PLANAR_PUSH,
        np.arange(800, 1000),
    )
    middle = PLANAR_PUSH.latents_of_states(np.array([[CENTRE] * 4 + [0.0]]))
    guess = PLANAR_PUSH.errors(torch.from_numpy(middle).expand(200, 6), torch.from_numpy(truth[800:]))
    for found in errors.values():
        assert found["pusher_px"]["mean"] == pytest.approx(float(guess["pusher_px"].mean()), rel=0.05)


def test_probes_are_fitted_on_the_given_frames_only() -> None:
    """Frames outside the fitted ones may be nonsense."""
    states = poses(700)
    truth = PLANAR_PUSH.latents_of_states(states)
    latents = truth.copy()
    latents[:300] = np.nan
    probe = fit_probes(latents, truth, np.arange(300, len(states)))["linear"]
    assert bool(torch.isfinite(probe(torch.from_numpy(latents[300:]))).all())


def test_one_table_and_one_sentence_for_all_recipes() -> None:
    error = {"median": 1.25, "mean": 2.0}
    pose = {"pusher_px": error, "body_px": {"median": 3.0, "mean": 4.0}, "body_deg": error}
    free = {
        "held_out_episodes": 3,
        "errors_by_step": {"0": pose, "5": pose},
        "relative_latent_error_by_step": {"5": 0.5, "10": 0.75},
        "probes": {"linear": pose, "network": pose},
    }
    table = metrics_table(free)
    assert table.title == "prediction errors on 3 held-out episodes: median (mean), read by the network probe"
    assert [str(column.header) for column in table.columns] == [
        "environment steps ahead",
        "pusher px",
        "body px",
        "body degrees",
        "latent error / spread",
    ]
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["0", "5"], ["1.2 (2.0)"] * 2, ["3.0 (4.0)"] * 2, ["1.2 (2.0)"] * 2, ["", "0.500"]]
    assert probes_sentence(free) == (
        "median errors of what a latent tells: linear probe pusher 1.2 px, body 3.0 px, body 1.2 degrees; "
        "network probe pusher 1.2 px, body 3.0 px, body 1.2 degrees"
    )
    blind = {"held_out_episodes": 3, "relative_latent_error_by_step": {"5": 0.5, "10": 0.75}}
    assert [list(column.cells) for column in metrics_table(blind).columns] == [["5", "10"], ["0.500", "0.750"]]
    assert probes_sentence(blind) is None
    named = {"held_out_episodes": 3, "errors_by_step": {"0": pose}}
    assert metrics_table(named).title == "prediction errors on 3 held-out episodes: median (mean)"
