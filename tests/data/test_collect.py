"""Collecting: deterministic by seed, whatever the workers; resumable; readable."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from grasp_agent.data import CollectSettings, EpisodeDataset, collect

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
    (other / ".writing-00000-1").mkdir()  # what a killed worker leaves
    before = (other / "shard-00001" / "frames.npy").stat().st_mtime_ns
    collect(settings(), other, workers=1)
    assert (other / "shard-00001" / "frames.npy").stat().st_mtime_ns == before
    assert not list(other.glob(".writing*"))
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


def test_errors_say_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError, match="grasp-agent collect"):
        EpisodeDataset(tmp_path)
    with pytest.raises(ValueError, match="expected 'expert' or 'random'"):
        settings(policy="human")
    with pytest.raises(ValueError, match="no scripted expert"):
        collect(settings(env_ids=("MountainCarContinuous-v0",)), tmp_path / "x", workers=1)
