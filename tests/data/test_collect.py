"""Collecting: deterministic by seed, whatever the workers; resumable; readable."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dot_world import DotEnv, draw
from tiny_dino import tiny_dino
from tiny_model import TINY

from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.files.lock import locked
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained
from grasp_agent.objectives.goal_distance import GoalDistance, default_objective
from grasp_agent.planning import GradientDescent, MultiStart

collecting = importlib.import_module("grasp_agent.data.collect")

REACH = "grasp_envs:grasp_envs/PushTReach-v0"


def settings(**changes: object) -> CollectSettings:
    base: dict[str, object] = {
        "env_ids": (REACH,),
        "steps": 120,
        "shard_steps": 60,
        "episode_length": 30,
        "resolution": 16,
        "seed": 3,
    }
    return CollectSettings(**{**base, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return collect(settings(), tmp_path_factory.mktemp("data") / "d", workers=1)


def test_episodes_are_what_the_environment_showed(folder) -> None:  # type: ignore[no-untyped-def]
    import gymnasium

    data = EpisodeDataset(folder)
    assert len(data) == data.lengths.sum() == 124 and list(data.lengths) == [31] * 4
    env = gymnasium.make(REACH, obs_type="pixels", resolution=16)
    env.reset(seed=0)
    assert data.states is not None
    for first, length in zip(data.starts, data.lengths, strict=True):
        env.unwrapped.set_state(data.states[first])  # type: ignore[attr-defined]
        frames = data.frames(np.arange(first, first + length))
        for t in range(length - 1):
            obs, *_ = env.step(data.actions[first + t])
            assert np.abs(obs["pixels"].astype(int) - frames[t + 1]).mean() < 2.0
            assert np.abs(env.unwrapped.get_state()[:2] - data.states[first + t + 1][:2]).max() < 1e-6  # type: ignore[attr-defined]
        assert not data.actions[first + length - 1].any()
    env.close()


def test_workers_and_interruptions_do_not_change_the_data(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    seen: list[tuple[int, int]] = []
    other = collect(settings(), tmp_path / "two", workers=2, on_shard=lambda a, b: seen.append((a, b)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    shutil.rmtree(other / "shard-00000")
    (other / ".partial-shard-00000").mkdir()  # what a killed worker leaves
    before = (other / "shard-00001" / "frames.npy").stat().st_mtime_ns
    collect(settings(), other, workers=1)
    assert (other / "shard-00001" / "frames.npy").stat().st_mtime_ns == before
    assert not list(other.glob(".*"))
    a, b = EpisodeDataset(folder), EpisodeDataset(other)
    every = np.arange(len(a))
    assert np.array_equal(a.frames(every), b.frames(every))
    assert np.array_equal(a.actions, b.actions) and np.array_equal(a.states, b.states)


def test_data_grows_but_never_mixes(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown)
    collect(settings(steps=180), grown, workers=1)
    assert len(EpisodeDataset(grown).lengths) == 6
    with pytest.raises(ValueError, match=r"other settings \(different: resolution, seed\)"):
        collect(settings(seed=4, resolution=24), grown, workers=1)


def test_no_more_is_collected_than_was_asked_for(tmp_path) -> None:  # type: ignore[no-untyped-def]
    few = settings(steps=60, shard_steps=5000)
    one = collect(few, tmp_path / "d", workers=1)
    assert list(EpisodeDataset(one).lengths) == [31, 31]
    collect(settings(steps=100, shard_steps=5000), one, workers=1)  # grows by what was a shard at the beginning
    assert list(EpisodeDataset(one).lengths) == [31] * 4
    collect(few, one, workers=1)
    assert list(EpisodeDataset(one).lengths) == [31] * 4
    both = settings(env_ids=(REACH, "grasp_envs:grasp_envs/PushT-v0"), steps=60, shard_steps=5000)
    collect(both, tmp_path / "two", workers=1)
    assert len(list((tmp_path / "two").glob("shard-*"))) == 2  # each environment has its turn


def test_several_folders_are_one_data_set(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    random = collect(settings(policy="random", seed=4), tmp_path / "random", workers=1)
    both = EpisodeDataset(folder, random)
    apart = [EpisodeDataset(folder), EpisodeDataset(random)]
    assert len(both) == 248 and list(both.source) == [0] * 4 + [1] * 4
    assert [s["policy"] for s in both.settings] == ["expert", "random"]
    every = np.arange(124)
    for i, one in enumerate(apart):
        assert np.array_equal(both.frames(every + 124 * i), one.frames(every))
        assert np.array_equal(both.actions[124 * i : 124 * (i + 1)], one.actions)
    training, held_out = both.split(0.25)
    assert list(training) == [0, 1, 2, 4, 5, 6] and list(held_out) == [3, 7], "some of each folder is kept apart"
    other = collect(settings(resolution=24), tmp_path / "larger", workers=1)
    with pytest.raises(ValueError, match=r"expected frames \[16, 16, 3\].*got \[24, 24, 3\]"):
        EpisodeDataset(folder, other)
    with pytest.raises(ValueError, match="at least one data folder"):
        EpisodeDataset()


def test_a_collecting_planner_weighs_goals_as_the_task_does() -> None:
    for env_id, weights in ((REACH, None), ("grasp_envs:grasp_envs/PushT-v0", (0.001, 0.001, 1.0, 1.0, 1.0, 1.0))):
        env = gym.make(env_id, obs_type="pixels", resolution=64)
        planned = settings(env_ids=(env_id,), policy="planner", model="pusht", resolution=64)
        agent = collecting._planner(env_id, planned, env)
        objective = agent.objective
        assert isinstance(objective, GoalDistance) and isinstance(objective.weights, torch.Tensor)
        usual = default_objective(agent.world_model).weights
        wanted = usual if weights is None else torch.tensor(weights, dtype=torch.float64)
        assert isinstance(wanted, torch.Tensor)
        torch.testing.assert_close(objective.weights, wanted)
        env.close()


def test_a_planner_collects_what_it_gets_into(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(collecting, "PLANNED_TOGETHER", 2)
    # Gradient descent stays near its guesses: with a random model Gauss-Newton ends at the bounds, where the noise
    # would not show.
    monkeypatch.setattr(collecting, "PLANNER", MultiStart(GradientDescent(), restarts=2, refresh=1, candidates=1))
    torch.manual_seed(0)
    sizes = {"encoder_channels": 4, "encoder_keypoints": 4, "encoder_hidden": 8, "dynamics_hidden": 8}
    model = LatentWorldModel(WorldModelConfig(image_size=16, state_size=4, decoder_channels=0, **sizes))  # type: ignore[arg-type]
    saved = str(save_pretrained(model, tmp_path / "model"))
    planned = settings(policy="planner", model=saved, steps=20, shard_steps=20, episode_length=8)
    data = EpisodeDataset(collect(planned, tmp_path / "a", workers=1))
    assert list(data.lengths) == [9] * 3, "whole episodes until the shard is full"
    again = EpisodeDataset(collect(planned, tmp_path / "b", workers=1))
    assert np.array_equal(data.actions, again.actions) and np.array_equal(data.states, again.states)
    moved = EpisodeDataset(collect(replace(planned, noise=0.2), tmp_path / "c", workers=1))
    # With noise the same planner starts from the same states and then does something else.
    assert np.array_equal(moved.states[0], data.states[0])  # type: ignore[index]
    assert 0.02 < np.abs(moved.actions[0] - data.actions[0]).max() < 0.8

    for changes, message in (
        ({"model": "nothing"}, "unknown world model 'nothing'"),
        ({"resolution": 24}, "resolution: expected 16 px"),
        ({"env_ids": (REACH, "blind_world:Blind-v0")}, "expected pictures, which .* reads, got vectors; try --pixels"),
        ({"env_ids": ("blind_world:Shown-v0",), "pixels": True}, "expected a goal in observation or info"),
    ):
        with pytest.raises(ValueError, match=message):
            collect(replace(planned, **changes), tmp_path / "d", workers=1)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists(), "a mistake leaves nothing behind"
    with pytest.raises(ValueError, match="expected a world model with policy 'planner'"):
        settings(policy="planner")
    with pytest.raises(ValueError, match="expected a world model with policy 'planner' and none without"):
        settings(model="pusht")
    with pytest.raises(ValueError, match="noise: expected 0 to 1, and 0 but for policy 'planner'"):
        settings(noise=0.1)


def test_episodes_that_end_early_make_room_for_more_and_none_is_left_out(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A shard holds the first episodes that fill it, whatever their lengths and however many are played at once."""

    class Uneven(DotEnv):
        def reset(self, **kwargs: Any) -> Any:
            seen = super().reset(**kwargs)
            self.limit = 2 + kwargs["seed"] % 7
            return seen

    gym.register("tests/UnevenDot-v0", entry_point=Uneven)
    save_pretrained(LatentWorldModel(TINY), tmp_path / "model")
    monkeypatch.setattr(
        collecting, "PLANNER", MultiStart(GradientDescent(), restarts=1, refresh=0, candidates=0, iterations=1)
    )
    try:
        found = {}
        for together in (1, 4):
            monkeypatch.setattr(collecting, "PLANNED_TOGETHER", together)
            what = settings(
                env_ids=("tests/UnevenDot-v0",),
                env_kwargs=(("obs_type", "pixels"),),
                policy="planner",
                model=str(tmp_path / "model"),
                steps=40,
                shard_steps=40,
                episode_length=6,
            )
            found[together] = EpisodeDataset(collect(what, tmp_path / str(together), workers=1))
    finally:
        gym.registry.pop("tests/UnevenDot-v0")
    one, four = found[1], found[4]
    draws = [np.random.SeedSequence([3, 0, number]).generate_state(2) for number in range(len(one.lengths))]
    expected = [min(6, 2 + (2**31 + int(seed) % 2**31) % 7) for seed, _ in draws]
    assert list(one.lengths - 1) == list(four.lengths - 1) == expected
    assert sum(expected[:-1]) < 40 <= sum(expected)
    np.testing.assert_allclose(one.actions, four.actions, atol=1e-4)
    for episode, (seed, _) in enumerate(draws):
        env = DotEnv("pixels")
        env.reset(seed=2**31 + int(seed) % 2**31)
        first = one.frames(one.starts[episode : episode + 1])[0]
        np.testing.assert_array_equal(first, draw(env.point))


def test_one_collector_at_a_time(folder) -> None:  # type: ignore[no-untyped-def]
    with locked(folder), pytest.raises(RuntimeError, match="expected a folder that no other run writes to"):
        collect(settings(), folder, workers=1)


def test_frames_in_any_order(folder) -> None:  # type: ignore[no-untyped-def]
    data = EpisodeDataset(folder)
    index = np.array([100, 3, 70, 3])
    frames = data.frames(index)
    for i, number in enumerate(index):
        assert np.array_equal(frames[i], data.frames(np.array([number]))[0])


def test_windows_stay_inside_episodes(folder) -> None:  # type: ignore[no-untyped-def]
    data = EpisodeDataset(folder)
    first = data.windows(np.array([1, 3]), 31)
    assert list(first) == [31, 93]
    with pytest.raises(ValueError, match="no episode has the 32 frames"):
        data.windows(np.array([1]), 32)


def test_the_expert_takes_arguments(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    leaning = collect(settings(expert_kwargs=(("leaning", 1.0),)), tmp_path / "leaning", workers=1)
    usual, other = EpisodeDataset(folder), EpisodeDataset(leaning)
    assert np.abs(other.actions).mean() < 0.8 * np.abs(usual.actions).mean()
    with pytest.raises(ValueError, match=r"other settings \(different: expert_kwargs\)"):
        collect(settings(), leaning, workers=1)
    with pytest.raises(ValueError, match=r"expert_kwargs: expected none without the expert, got {'leaning': 1\.0}"):
        settings(policy="random", expert_kwargs=(("leaning", 1.0),))
    with pytest.raises(ValueError, match="expert_kwargs: expected no 'seed', since every episode has one of its own"):
        settings(expert_kwargs=(("seed", 1),))
    for name, message in (("luck", "expected a scripted expert that takes luck, got one whose"), ("leaning", "0 to 1")):
        with pytest.raises(ValueError, match=message):
            collect(settings(expert_kwargs=((name, 2.0),)), tmp_path / "x", workers=1)
    assert not (tmp_path / "x").exists()


def test_data_from_before_experts_took_arguments_grow(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    meta = json.loads((old / "dataset.json").read_text())
    del meta["settings"]["expert_kwargs"], meta["sha256"]
    (old / "dataset.json").write_text(json.dumps(meta))
    collect(settings(steps=180), old, workers=1)
    assert len(EpisodeDataset(old).lengths) == 6


def test_actions_that_are_places_are_recorded_from_the_middle(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked = settings(env_kwargs=(("control", "absolute"),), policy="random")
    absolute = collect(asked, tmp_path / "absolute", workers=1)
    data = EpisodeDataset(absolute)
    assert data.settings[0]["centred_actions"] is True and "centred_actions" not in EpisodeDataset(folder).settings[0]
    assert -1 <= data.actions.min() < -0.8 and 0.8 < data.actions.max() <= 1 and abs(data.actions.mean()) < 0.2
    with pytest.raises(ValueError, match=r"expected actions told as in .*, got some from the middle of their bounds"):
        EpisodeDataset(folder, absolute)
    meta = json.loads((absolute / "dataset.json").read_text())
    del meta["centred_actions"], meta["sha256"]
    (absolute / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"as they are recorded now, got older data; choose a new folder"):
        collect(asked, absolute, workers=1)


def test_errors_say_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError, match="grasp-agent collect"):
        EpisodeDataset(tmp_path)
    with pytest.raises(ValueError, match="policy: expected one of expert, random, planner"):
        settings(policy="human")
    with pytest.raises(ValueError, match="no scripted expert"):
        collect(settings(env_ids=("blind_world:Blind-v0",)), tmp_path / "x", workers=1)


# ---- vectors, choices, rewards and ends --------------------------------------------------------------------


def test_vectors_choices_rewards_and_ends_are_recorded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = settings(env_ids=("CartPole-v1",), policy="random", steps=100, shard_steps=100, episode_length=500)
    data = EpisodeDataset(collect(made, tmp_path / "cart", workers=1))
    assert data.vectors is not None and data.rewards is not None and data.terminated is not None
    assert data.vectors.shape == (len(data), 4) and data.vectors.dtype == np.float32
    last = data.starts + data.lengths - 1
    inside = np.setdiff1d(np.arange(len(data)), last)
    assert set(map(tuple, data.actions[inside].tolist())) == {(1.0, 0.0), (0.0, 1.0)}
    assert not data.actions[last].any()
    assert (data.rewards[inside] == 1.0).all() and not data.rewards[last].any()
    assert data.terminated[last].all() and not data.terminated[inside].any()  # a random pole falls before 500 steps
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for i in inside[:20]:  # what is written is what the environment does
        env.state = data.vectors[i].astype(np.float64)  # type: ignore[attr-defined]
        obs, *_ = env.step(int(data.actions[i].argmax()))
        np.testing.assert_allclose(obs, data.vectors[i + 1], atol=1e-5)
    with pytest.raises(ValueError, match=r"expected pictures, got vectors of 4 numbers; train with --recipe vector"):
        _ = data.image_size


def test_a_time_limit_is_no_end(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = settings(env_ids=("Pendulum-v1",), policy="random", steps=60, shard_steps=60, episode_length=300)
    data = EpisodeDataset(collect(made, tmp_path / "pendulum", workers=1))
    assert data.terminated is not None and not data.terminated.any()
    assert data.lengths.tolist() == [201]


def test_with_pixels_what_is_rendered_is_recorded_in_place_of_vectors(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = settings(env_ids=("blind_world:Shown-v0",), policy="random", steps=10, shard_steps=10, episode_length=10)
    assert EpisodeDataset(collect(made, tmp_path / "vectors", workers=1)).vectors is not None
    shown = EpisodeDataset(collect(replace(made, pixels=True), tmp_path / "pixels", workers=1))
    assert shown.vectors is None and shown.image_size == 16
    with pytest.raises(ValueError, match="different: pixels"):
        collect(made, tmp_path / "pixels", workers=1)


def test_of_goal_environments_the_achieved_goal_is_recorded_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    state = {"env_kwargs": (("obs_type", "state"),), "steps": 30, "shard_steps": 30}
    made = settings(env_ids=("grasp_envs:grasp_envs/PointMaze-v0",), **state)
    data = EpisodeDataset(collect(made, tmp_path / "maze", workers=1))
    assert data.vectors is not None and data.goal_size == 2 and data.states is not None
    np.testing.assert_allclose(data.vectors, np.c_[data.states, data.states[:, :2]], rtol=1e-6)


def test_pictures_and_the_numbers_beside_them_are_recorded(folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = settings(env_kwargs=(("obs_type", "pixels_agent_pos"),))
    both, alone = EpisodeDataset(collect(made, tmp_path / "both", workers=1)), EpisodeDataset(folder)
    assert both.proprio is not None and both.states is not None and both.proprio.dtype == np.float32
    assert both.proprio.shape == (len(both), 2) and alone.proprio is None
    np.testing.assert_allclose(both.proprio, np.clip(both.states[:, :2], 0, 512), rtol=1e-6)
    np.testing.assert_array_equal(both.frames(np.arange(len(both))), alone.frames(np.arange(len(alone))))
    assert EpisodeDataset(tmp_path / "both", folder).proprio is None, "not all folders have some"


def test_among_vectors_the_place_is_recorded_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = settings(env_kwargs=(("obs_type", "environment_state_agent_pos"),), steps=30, shard_steps=30)
    made = replace(made, env_ids=("grasp_envs:grasp_envs/PushT-v0",), policy="random")
    data = EpisodeDataset(collect(made, tmp_path / "vectors", workers=1))
    assert data.vectors is not None and data.vectors.shape[1] == 18 and data.proprio is None


def test_a_planner_that_reads_numbers_must_be_shown_some(tmp_path) -> None:  # type: ignore[no-untyped-def]
    saved = str(save_pretrained(tiny_dino(image_size=16, proprio_dim=2), tmp_path / "model"))
    planned = settings(policy="planner", model=saved, steps=2, shard_steps=2, episode_length=2)
    with pytest.raises(ValueError, match="expected 2 numbers under 'proprio' or 'agent_pos' beside the picture, which"):
        collect(planned, tmp_path / "data", workers=1)
    assert not (tmp_path / "data").exists()
    shown = replace(planned, env_kwargs=(("obs_type", "pixels_agent_pos"),))
    assert EpisodeDataset(collect(shown, tmp_path / "data", workers=1)).proprio is not None


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "data"
    large = settings(steps=10**12, shard_steps=10**9)  # 768 bytes a frame: 768 terabytes
    with pytest.raises(OSError, match=r"about 768,000,000\.0 MB are needed") as caught:
        collect(large, out, workers=1)
    assert caught.value.filename == str(out) and not out.exists()
