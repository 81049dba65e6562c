"""Random action sequences: their variance, how they hang together over time, and whose they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import LINEAR, linear_quadratic

from grasp_agent.core.rng import make_keys
from grasp_agent.planning.action_noise import coloured_noise, smooth_noise


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_smooth_noise_has_unit_variance_and_the_stated_correlation_across_blocks(correlation) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), batch=1, horizon=5)
    flat = smooth_noise(task, make_keys(0, 1), 40_000, correlation).view(40_000, 10, 2)
    assert flat.var(dim=0).sub(1).abs().max() < 0.05
    for lag in (1, 3):
        measured = (flat[:, lag:] * flat[:, :-lag]).mean(dim=0)
        assert (measured - correlation**lag).abs().max() < 0.05
    assert (flat[..., 0] * flat[..., 1]).mean().abs() < 0.01  # one number of the action knows nothing of another


@pytest.mark.parametrize("steps", [31, 32])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_coloured_noise_has_unit_variance_and_the_stated_spectrum_across_blocks(steps, exponent) -> None:
    model = LINEAR[{31: "integrator", 32: "integrator, block 2"}[steps]]()
    task = linear_quadratic(model, batch=1, horizon=steps // model.action_block)
    flat = coloured_noise(task, make_keys(0, 1), 4000, exponent).view(4000, steps, 2)
    assert flat.square().mean(dim=0).sub(1).abs().max() < 0.1
    power = torch.fft.rfft(flat, dim=1).abs().square().mean(dim=(0, 2))[1:]
    frequency = np.arange(1, len(power) + 1)
    slope, _ = np.polyfit(np.log(frequency), np.log(power.numpy()), 1)
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert (flat[..., 0] * flat[..., 1]).mean().abs() < 0.05


@pytest.mark.parametrize("noise", [smooth_noise, coloured_noise])
def test_noise_belongs_to_its_row(noise) -> None:
    task, keys = linear_quadratic(LINEAR["integrator, block 2"](), batch=3), make_keys(4, 3)
    together = noise(task, keys, 5, 0.9)
    assert together.shape == (3, 5, 8, 4)
    alone = noise(linear_quadratic(LINEAR["integrator, block 2"](), batch=1), keys[2:], 5, 0.9)
    torch.testing.assert_close(alone[0], together[2])
    assert not torch.allclose(together[0], together[1]) and not torch.allclose(together[0, 0], together[0, 1])
