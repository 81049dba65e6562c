"""Stage 2: windows of latents and actions, and the errors that are reported."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.data import EpisodeDataset
from grasp_agent.models import LatentWorldModel
from grasp_agent.models.latent.layout import Layout
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.planning import RandomShooting
from grasp_agent.training import LatentRecipe
from grasp_agent.training.dynamics import DynamicsTask, principal_components, unrolled
from grasp_agent.training.report import latent_errors, prediction_errors


def stub(history: int, block: int, predict: Any = None) -> Any:
    still = predict or (lambda states, actions: states[:, -1])
    return SimpleNamespace(
        history=history, action_block=block, dynamics=None, predict=still, device=torch.device("cpu")
    )


def task(model: Any, data: EpisodeDataset, latents: np.ndarray, unroll: int = 2) -> DynamicsTask:
    return DynamicsTask(model, data, latents, np.arange(len(data.lengths)), batch=4, unroll=unroll, symmetry=False)


def test_windows_begin_with_the_first_frame_and_zero_actions(write_episodes: Callable[..., EpisodeDataset]) -> None:
    numbers = np.arange(24, dtype=np.float32)  # frame i has latent i and action (i, -i)
    data = write_episodes([4, 20], actions=np.stack([numbers, -numbers], 1))
    windows = task(stub(history=3, block=2), data, numbers[:, None])
    assert list(windows.presents) == list(range(4, 20))  # the first episode is shorter than 2 steps of 2

    states, actions = windows.window(torch.tensor([4, 5, 6, 12]), unroll=2)
    assert states.shape == (4, 5, 1) and actions.shape == (4, 4, 4)
    assert states[:, :, 0].tolist() == [
        [4, 4, 4, 6, 8],
        [4, 4, 5, 7, 9],
        [4, 4, 6, 8, 10],
        [8, 10, 12, 14, 16],
    ]
    # Blocks of two actions; a block that begins before the episode is zero as far as that.
    assert actions[:, :, 0::2].tolist() == [
        [[0, 0], [0, 0], [4, 5], [6, 7]],
        [[0, 0], [0, 4], [5, 6], [7, 8]],
        [[0, 0], [4, 5], [6, 7], [8, 9]],
        [[8, 9], [10, 11], [12, 13], [14, 15]],
    ]
    assert torch.equal(actions[:, :, 1::2], -actions[:, :, 0::2])


@pytest.mark.parametrize(("huber", "loss"), [(2.0, 2.5 / 2.0 * 0.5), (0.5, 2.5 * (1 - 0.5 / 2))])
def test_errors_beyond_huber_count_linearly(
    write_episodes: Callable[..., EpisodeDataset], huber: float, loss: float
) -> None:
    """A model that stands still where the latent grows by 1 a step, at the beginning of training: one step."""
    numbers = np.arange(20, dtype=np.float32)
    data = write_episodes([20], actions=np.stack([numbers, numbers], 1))
    model = stub(history=1, block=1)
    task = DynamicsTask(model, data, numbers[:, None], np.arange(1), batch=4, unroll=2, symmetry=False, huber=huber)
    found = task.losses(task.draw(np.random.default_rng(0)), 0.0)["loss"]
    torch.testing.assert_close(found, torch.tensor(loss))


def test_principal_components_have_deviation_one() -> None:
    """Three numbers that are mixed from two sources of very different size: two components are found."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(4000, 2, generator=generator) * torch.tensor([30.0, 0.5])
    latents = 7.0 + sources @ torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    components = (latents - latents.mean(0)) @ principal_components(latents)
    torch.testing.assert_close(components.T @ components / 4000, torch.eye(2), atol=1e-3, rtol=0.0)


def test_a_whitened_error_counts_small_numbers_as_much_as_large_ones(
    write_episodes: Callable[..., EpisodeDataset],
) -> None:
    """Noise of deviation 10 and of 0.1, a model that stands still: gaps of variance 2 in both components."""
    noise = np.random.default_rng(0).standard_normal((3000, 2)).astype(np.float32) * np.array([10.0, 0.1], np.float32)
    data = write_episodes([3000], actions=np.zeros((3000, 2), np.float32))
    model = stub(history=1, block=1)
    losses = {}
    for name, latents in (("both", noise), ("large", noise * np.array([1.0, 0.0], np.float32))):
        task = DynamicsTask(
            model, data, latents, np.arange(1), batch=3000, unroll=1, symmetry=False, huber=100.0, whitened=3.0
        )
        losses[name] = task.losses(task.draw(np.random.default_rng(0)), 0.0)
        assert float(losses[name]["whitened"]) == pytest.approx(2.5 / 100 * 0.5 * 2, rel=0.1)
    plain = {name: float(terms["loss"] - 3.0 * terms["whitened"]) for name, terms in losses.items()}
    assert plain["both"] == pytest.approx(plain["large"], rel=1e-2)
    assert plain["both"] == pytest.approx(2.5 / 100 * 0.5 * 200 / 2, rel=0.1)


def test_windows_are_what_the_agent_sees(
    write_episodes: Callable[..., EpisodeDataset], tiny_recipe: Callable[[str], LatentRecipe]
) -> None:
    torch.manual_seed(0)
    model = LatentWorldModel(tiny_recipe("free").model)  # blocks of 5, history 3
    space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    agent = MPCAgent(model, space, RandomShooting(), horizon=1, budget=Budget(1))
    frames = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    state, taken, seen = None, [], []
    for frame in frames:
        past = None if state is None else state.history.actions[:, 5:].reshape(2, 10)
        action, state = agent.predict({"pixels": frame, "goal": frames[-1]}, state)
        taken.append(action)
        seen.append((state.history.latents[0, 5::5], past))
    data = write_episodes([len(frames)], actions=np.array(taken))
    windows = task(model, data, model.encode(torch.from_numpy(frames)).detach().numpy(), unroll=1)
    for t, (latents, past) in enumerate(seen[:-5]):
        states, actions = windows.window(torch.tensor([t]), unroll=1)
        torch.testing.assert_close(states[0, :3], latents, atol=1e-5, rtol=1e-5)
        assert past is None or torch.equal(actions[0, :2], past)


def test_symmetries_turn_single_actions(write_episodes: Callable[..., EpisodeDataset]) -> None:
    """Blocks of two actions are taken apart for the layout, and put together again."""

    class Mirror(Layout):
        def random_symmetry(self, states: Any, actions: Any, generator: Any) -> Any:
            assert states.shape[1:] == (5, 1) and actions.shape[1:] == (4 * 2, 2)
            return -states, actions * torch.tensor([1.0, -1.0])

    model = stub(history=3, block=2)
    model.action_dim, model.layout = 2, Mirror()
    numbers = np.arange(24, dtype=np.float32)
    data = write_episodes([24], actions=np.stack([numbers, numbers + 100], 1))
    plain, mirrored = (
        DynamicsTask(model, data, numbers[:, None], np.arange(1), batch=6, unroll=2, symmetry=symmetry).draw(
            np.random.default_rng(0)
        )
        for symmetry in (False, True)
    )
    assert torch.equal(mirrored[0], -plain[0])
    assert torch.equal(mirrored[1], plain[1] * torch.tensor([1.0, -1.0, 1.0, -1.0]))


def test_rollouts_feed_predictions_back() -> None:
    model = stub(history=2, block=1, predict=lambda s, a: s[:, -1] + (s[:, -1] - s[:, -2]) + a[:, -1])
    states = torch.tensor([[[0.0], [1.0]]])
    actions = torch.tensor([[[9.0], [0.5], [0.0]]])  # the first led from the first state to the second
    assert unrolled(model, states, actions, 2).tolist() == [[[2.5], [4.0]]]


def test_prediction_errors_have_known_values(write_episodes: Callable[..., EpisodeDataset]) -> None:
    """The encoder is 5 px off, the body moves 2 px a step, and the dynamics predicts that nothing moves."""
    steps = np.arange(30)
    states = np.tile([100.0, 100.0, 200.0, 200.0, 0.0], (30, 1))
    states[:, 2] += 2.0 * steps
    data = write_episodes([30], states=states)
    truth = PLANAR_PUSH.latents_of_states(states)
    latents = truth.copy()
    latents[:, 0:2] += np.array([0.15, 0.20], np.float32)
    table = prediction_errors(stub(3, 1), task(stub(3, 1), data, latents, unroll=10), truth, PLANAR_PUSH)
    assert list(table) == ["0", "1", "5", "10"]
    for step, errors in table.items():
        assert errors["pusher_px"] == pytest.approx({"median": 5.0, "mean": 5.0}, abs=0.01)
        assert errors["body_px"]["median"] == pytest.approx(2.0 * int(step), abs=0.01)
        assert errors["body_deg"]["mean"] == 0.0


def test_latent_errors_are_relative_to_the_spread(write_episodes: Callable[..., EpisodeDataset]) -> None:
    data = write_episodes([3] * 1000)
    latents = np.random.default_rng(0).normal(0.0, 7.0, (3000, 4)).astype(np.float32)
    noise = latent_errors(stub(1, 1), task(stub(1, 1), data, latents))
    assert list(noise) == ["1", "2"]
    assert noise["2"] == pytest.approx(2**0.5, rel=0.05)  # another draw, predicted by the present one
    mean = stub(1, 1, predict=lambda states, actions: torch.zeros_like(states[:, -1]))
    assert latent_errors(mean, task(mean, data, latents))["1"] == pytest.approx(1.0, rel=0.05)


def test_a_single_window_has_no_spread(write_episodes: Callable[..., EpisodeDataset]) -> None:
    latents = np.zeros((3, 4), np.float32)
    assert latent_errors(stub(1, 1), task(stub(1, 1), write_episodes([3]), latents)) == {}
