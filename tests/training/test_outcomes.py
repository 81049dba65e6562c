"""Rewards, ends and values, learned from a world whose answers are known: a walk to a cliff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from grasp_agent import GRASPAgent
from grasp_agent.cli import learning
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.models import SpritesModel, load_world_model
from grasp_agent.models.vector import VectorConfig, VectorModel
from grasp_agent.objectives import Rewards
from grasp_agent.tasks import objective_for
from grasp_agent.training import make_recipe, train
from grasp_agent.training.loop import Stage, run_stage
from grasp_agent.training.outcomes import OutcomesTask, discounted, outcome_errors

STEPS = 20


def a_walk(folder: Path, episodes: int = 40, seed: int = 0) -> EpisodeDataset:
    """Episodes of x + action with reward x' and the end beyond 3; a time limit of 20 steps ends the others."""
    generator = np.random.default_rng(seed)
    parts: dict[str, list[list[float]]] = {"vectors": [], "actions": [], "rewards": [], "terminated": []}
    lengths = []
    for _ in range(episodes):
        x, xs, actions, rewards, ended = float(generator.uniform(-1, 1)), [], [], [], False
        while True:
            xs.append(x)
            if ended or len(xs) > STEPS:
                break
            action = float(generator.uniform(-1, 1.2))
            x, ended = x + action, x + action > 3
            actions.append(action)
            rewards.append(x)
        parts["vectors"] += [[value] for value in xs]
        parts["actions"] += [[value] for value in [*actions, 0.0]]
        parts["rewards"] += [[value] for value in [*rewards, 0.0]]
        parts["terminated"] += [[float(ended and i == len(xs) - 1)] for i in range(len(xs))]
        lengths.append(len(xs))
    shard = folder / "shard-00000"
    shard.mkdir(parents=True)
    (folder / "dataset.json").write_text('{"format": "grasp-agent episodes", "settings": {"env_ids": ["Walk-v0"]}}')
    np.save(shard / "vectors.npy", np.array(parts["vectors"], np.float32))
    np.save(shard / "actions.npy", np.array(parts["actions"], np.float32))
    np.save(shard / "rewards.npy", np.array(parts["rewards"], np.float32)[:, 0])
    np.save(shard / "terminated.npy", np.array(parts["terminated"])[:, 0] > 0)
    np.save(shard / "lengths.npy", np.array(lengths))
    return EpisodeDataset(folder)


def a_task(data: EpisodeDataset, discount: float = 0.5) -> tuple[VectorModel, OutcomesTask]:
    torch.manual_seed(0)
    model = VectorModel(VectorConfig(size=1, action_dim=1, outcome_hidden=32, discount=discount))
    assert data.vectors is not None
    task = OutcomesTask(model, data, data.vectors, np.arange(len(data.lengths)), 128)
    task.fit_scales()
    return model, task


def test_batches_hold_steps_with_what_they_earned_and_whether_they_ended(tmp_path: Path) -> None:
    _, task = a_task(a_walk(tmp_path / "walk"))
    states, following, actions, rewards, ended = task.draw(np.random.default_rng(0))
    torch.testing.assert_close(following[:, 0, 0], states[:, 0, 0] + actions[:, 0])
    torch.testing.assert_close(rewards, following[:, 0, 0])
    assert torch.equal(ended, following[:, 0, 0] > 3) and 0 < ended.sum() < len(ended)


def test_what_is_learned_is_right(tmp_path: Path) -> None:
    data = a_walk(tmp_path / "walk")
    model, task = a_task(data)
    run_stage(Stage("outcomes", 1500, 128, 3e-3), task, tmp_path, seed=0)
    x, action = torch.tensor([-2.0, 0.5, 2.5, 3.3]).view(4, 1, 1), torch.zeros(4, 1)
    reward, goes_on = model.outcome(x, action)
    torch.testing.assert_close(reward, x.flatten(), atol=0.15, rtol=0)
    assert (goes_on > 0.5).tolist() == [True, True, True, False]
    # before the cliff V(x) = E[x + a + V(x + a) / 2] with E[a] = 0.1, and so V(x) = 2 x + 0.4
    torch.testing.assert_close(
        model.value(torch.tensor([[[0.5]], [[1.0]]])), torch.tensor([1.4, 2.4]), atol=0.3, rtol=0
    )
    found = outcome_errors(task)
    assert found["reward"] < 0.1 and found["ends_found"] > 0.8 and found["false_ends"] < 0.05
    assert found["value_explained"] > 0.6


def test_a_stopped_run_goes_on_with_the_slow_copy_that_it_had(tmp_path: Path) -> None:
    data = a_walk(tmp_path / "walk")
    whole, stopped = a_task(data), a_task(data)
    schedule = Stage("outcomes", 60, 64, 1e-3, checkpoint_seconds=0.0, log_every=30)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    run_stage(schedule, whole[1], tmp_path / "a", seed=0)

    class Stop(Exception):
        pass

    def stop(name: str, step: int, steps: int, terms: dict[str, float]) -> None:
        raise Stop

    with pytest.raises(Stop):
        run_stage(schedule, stopped[1], tmp_path / "b", 0, stop)
    fresh = a_task(data)
    run_stage(schedule, fresh[1], tmp_path / "b", seed=0)
    for one, other in zip(whole[1].module.parameters(), fresh[1].module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_returns_end_with_the_episode(tmp_path: Path) -> None:
    data = a_walk(tmp_path / "walk", episodes=3)
    assert data.rewards is not None
    ones = np.ones(len(data), np.float32)
    returns = discounted(ones, data, 0.5, 1)
    for start, length in zip(data.starts, data.lengths, strict=True):
        assert returns[start + length - 1] == 0.0
        np.testing.assert_allclose(returns[start + length - 3 : start + length - 1], [1.5, 1.0])


def test_data_without_rewards_are_refused(tmp_path: Path) -> None:
    data = a_walk(tmp_path / "walk")
    (tmp_path / "walk" / "shard-00000" / "rewards.npy").unlink()
    data = EpisodeDataset(tmp_path / "walk")
    with pytest.raises(ValueError, match="expected data with rewards"):
        a_task(data)


@pytest.fixture(scope="module")
def swings(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Pendulum as it is drawn, with what its steps earn."""
    settings = CollectSettings(
        ("Pendulum-v1",), 200, policy="random", episode_length=40, shard_steps=200, pixels=True, resolution=32
    )
    return EpisodeDataset(collect(settings, tmp_path_factory.mktemp("swings") / "data", workers=1))


def test_rewards_are_learned_where_the_environment_shows_no_goal(
    swings: EpisodeDataset, pusht_data: EpisodeDataset
) -> None:
    for name in ("sprites", "joint"):
        assert make_recipe(name, swings).rewards  # type: ignore[attr-defined]
        assert not make_recipe(name, pusht_data).rewards  # type: ignore[attr-defined]
    assert pusht_data.rewards is not None, "it has rewards, which are not needed"


@pytest.mark.parametrize("flag", ["rewards", "detours"])
def test_the_command_is_told_what_to_learn(
    flag: str, swings: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Exception):
        pass

    def train(data: EpisodeDataset, recipe: Any, *rest: Any) -> None:
        raise Told(getattr(recipe, flag))

    monkeypatch.setattr("grasp_agent.training.train", train)
    for said, expected in ((None, flag == "rewards"), ("yes", True), ("no", False)):
        with pytest.raises(Told) as told:
            learning.train((swings.folder,), tmp_path, recipe="sprites", **{flag: said})  # type: ignore[arg-type]
        assert told.value.args == (expected,), said


def test_plans_to_goals_are_proposed_where_there_are_goals(swings: EpisodeDataset, pusht_data: EpisodeDataset) -> None:
    for name in ("sprites", "joint"):
        for data, proposes in ((swings, False), (pusht_data, True)):
            trained = [stage.trains for stage in make_recipe(name, data).stages()]
            assert ("plan proposals" in trained) is proposes


def test_pictures_tell_rewards_by_several_of_them(swings: EpisodeDataset, tmp_path: Path) -> None:
    """A picture does not show how fast the pendulum swings."""
    steps = {"encoder": 2, "dynamics": 2, "outcomes": 2}
    recipe = make_recipe("sprites", swings, steps, dynamics_hidden=8, held_out=0.3)
    metrics = train(swings, recipe, tmp_path / "train")
    assert set(metrics["outcomes"]) == {"reward", "value_explained", "false_ends"}
    model = load_world_model(tmp_path / "train" / "model")
    assert isinstance(model, SpritesModel) and model.outcomes is not None
    assert model.history == 3 and model.outcomes.mean.shape == (3 * model.config.state_size,)
    agent = GRASPAgent(model, spaces.Box(-2, 2, (1,)), objective=objective_for("Pendulum-v1", model, shows_goal=False))
    assert isinstance(agent.objective, Rewards)
    assert abs(agent.act(swings.frames(np.array([0]))[0])[0]) <= 2
