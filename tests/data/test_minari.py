"""Minari data sets: what becomes of them, and of ours there and back."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from grasp_agent.data import CollectSettings, EpisodeDataset, collect, convert
from grasp_agent.data.dataset import read_meta
from grasp_agent.data.foreign import source
from grasp_agent.files.lock import locked

minari: Any = pytest.importorskip("minari", reason="Minari is an extra")

REACH = "grasp_envs:grasp_envs/PushTReach-v0"


@pytest.fixture(autouse=True)
def local_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's place on this machine is a temporary folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def recorded(out: Path, env_id: str, **changes: Any) -> EpisodeDataset:
    base: dict[str, Any] = {"steps": 60, "shard_steps": 40, "episode_length": 20, "resolution": 40, "policy": "random"}
    return EpisodeDataset(collect(CollectSettings((env_id,), **{**base, **changes}), out, workers=1))


def make_foreign(
    name: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], steps: tuple[int, ...] = (3, 2)
) -> list[dict[str, Any]]:
    """Store a data set of random numbers, as another program would; the first episode terminates. Its episodes."""
    observation_space.seed(0)
    action_space.seed(0)
    episodes: list[dict[str, Any]] = []
    for number, count in enumerate(steps):
        seen = [observation_space.sample() for _ in range(count + 1)]
        ends = np.arange(count) == count - 1
        episodes.append(
            {
                "observations": {key: np.stack([one[key] for one in seen]) for key in seen[0]}
                if isinstance(observation_space, spaces.Dict)
                else np.stack(seen),
                "actions": np.stack([action_space.sample() for _ in range(count)]),
                "rewards": np.arange(count) + 10.0 * number,
                "terminations": ends & (number == 0),
                "truncations": ends & (number != 0),
            }
        )
    path = Path(minari.storage.get_dataset_path(name)) / "data"
    path.mkdir(parents=True)
    storage = minari.dataset.minari_storage.MinariStorage.new(
        path, observation_space, action_space, jpeg_encoding=False
    )
    storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__})
    storage.update_episodes([minari.data_collector.EpisodeBuffer(**one) for one in episodes])
    return episodes


# ---- there and back


@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        (REACH, {"policy": "expert"}),  # pictures
        (REACH, {"env_kwargs": (("obs_type", "pixels_agent_pos"),)}),  # numbers beside them
        (REACH, {"env_kwargs": (("control", "absolute"),)}),  # actions told from the middle of their bounds
        ("CartPole-v1", {}),  # vectors, choices, episodes that end
        ("Pendulum-v1", {}),  # actions from -2 to 2
    ],
    ids=["pictures", "both", "places", "choices", "numbers"],
)
def test_ours_come_back_from_minari(env_id: str, changes: dict[str, Any], tmp_path: Path) -> None:
    ours = recorded(tmp_path / "ours", env_id, **changes)
    parts: list[tuple[int, int]] = []
    convert(tmp_path / "ours", "minari:mine/test-v0", shard_steps=40, on_part=lambda *of: parts.append(of))
    assert parts == [(done, parts[-1][1]) for done in range(parts[-1][1] + 1)]
    convert("minari:mine/test-v0", tmp_path / "back", resolution=40, shard_steps=40)
    back = EpisodeDataset(tmp_path / "back")
    every = np.arange(len(ours))
    np.testing.assert_array_equal(back.lengths, ours.lengths)
    np.testing.assert_array_equal(back.observations(every), ours.observations(every))
    np.testing.assert_allclose(back.actions, ours.actions, atol=1e-6)
    assert ours.rewards is not None and ours.terminated is not None
    np.testing.assert_array_equal(back.rewards, ours.rewards)
    np.testing.assert_array_equal(back.terminated, ours.terminated)
    assert back.terminated is not None and back.terminated.any() == (env_id == "CartPole-v1")
    assert back.states is None
    if ours.proprio is None:
        assert back.proprio is None
    else:
        np.testing.assert_array_equal(back.proprio, ours.proprio)
    for episode in minari.load_dataset("mine/test-v0"):
        ends = episode.terminations.astype(int) + episode.truncations
        assert ends[-1] == 1 and not ends[:-1].any(), "an episode ends once, in one way"
    for key in ("env_ids", "env_kwargs", "policy"):
        assert back.settings[0][key] == ours.settings[0][key]
    assert (
        ("centred_actions" in back.settings[0])
        == ("centred_actions" in ours.settings[0])
        == ("control" in str(changes))
    )


def test_minari_reads_what_was_written(tmp_path: Path) -> None:
    """The environment can be recovered, its actions are its own, and pictures are not compressed with loss."""
    asked = (("control", "absolute"),)
    ours = recorded(tmp_path / "ours", REACH, env_kwargs=asked)
    convert(tmp_path / "ours", "minari:mine/more/test-v1")
    assert list(minari.list_local_datasets()) == ["mine/more/test-v1"]
    assert sorted(minari.namespace.list_local_namespaces()) == ["mine", "mine/more"]
    there = minari.load_dataset("mine/more/test-v1")
    assert (there.total_episodes, there.total_steps) == (len(ours.lengths), len(ours) - len(ours.lengths))
    first = there[0]
    np.testing.assert_array_equal(first.observations, ours.frames(np.arange(ours.lengths[0])))
    assert 100 < first.actions.max() <= 512 and first.actions.shape == (20, 2)
    assert first.truncations.tolist() == [False] * 19 + [True] and not first.terminations.any()
    with minari.load_dataset("mine/more/test-v1").recover_environment() as env:
        assert env.action_space == there.action_space
        assert env.unwrapped.spec.kwargs["control"] == "absolute"


def test_goals_that_are_about_the_last_numbers_stay_so(tmp_path: Path) -> None:
    part = spaces.Box(-1, 1, (2,), np.float32)
    space = spaces.Dict({"observation": spaces.Box(-1, 1, (3,)), "achieved_goal": part, "desired_goal": part})
    episodes = make_foreign("goal-v0", space, spaces.Box(-1, 1, (2,)))
    for step, (data, out) in enumerate(
        [("minari:goal-v0", "one"), ("one", "minari:again-v0"), ("minari:again-v0", "two")]
    ):
        convert(*(place if ":" in place else tmp_path / place for place in (data, out)))
        if step != 1:
            read = EpisodeDataset(tmp_path / out)
            seen = [one["observations"] for one in episodes]
            wanted = [np.hstack([one["observation"], one["achieved_goal"]]) for one in seen]
            assert read.goal_size == 2
            np.testing.assert_array_equal(read.vectors, np.concatenate(wanted))


# ---- data of others


def test_data_of_others_are_recorded_as_collect_does(tmp_path: Path) -> None:
    picture = spaces.Box(0, 255, (6, 10, 3), np.uint8)
    place = spaces.Box(-1, 1, (2, 1), np.float64)
    space = spaces.Dict({"image": picture, "goal": picture, "speed": spaces.Box(-1, 1, (2,)), "agent_pos": place})
    episodes = make_foreign("others-v0", space, spaces.Box(0, 4, (1, 2), np.float32))
    convert("minari:others-v0", tmp_path / "out", resolution=10, shard_steps=3)
    data = EpisodeDataset(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2 and list(data.lengths) == [4, 3]
    frames = data.frames(np.arange(7))
    shown = np.concatenate([one["observations"]["image"] for one in episodes])
    np.testing.assert_array_equal(frames[:, 2:8], shown)
    places = np.concatenate([one["observations"]["agent_pos"] for one in episodes])
    np.testing.assert_allclose(data.proprio, places[..., 0], rtol=1e-6)
    assert not frames[:, :2].any() and not frames[:, 8:].any(), "bars above and below"
    taken = [one["actions"].reshape(-1, 2) / 2 - 1 for one in episodes]
    end = np.zeros((1, 2))
    np.testing.assert_allclose(data.actions, np.concatenate([taken[0], end, taken[1], end]), atol=1e-6)
    assert data.rewards is not None and data.rewards.tolist() == [0, 1, 2, 0, 10, 11, 0]
    assert data.terminated is not None and data.terminated.tolist() == [False] * 3 + [True] + [False] * 3
    meta = read_meta(tmp_path / "out")
    assert meta["centred_actions"] is True and meta["settings"]["env_ids"] == []
    assert meta["settings"]["source"] == "minari:others-v0"
    assert data.environment.tolist() == [0, 0]


def test_the_picture_can_be_chosen(tmp_path: Path) -> None:
    picture = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    first = spaces.Box(0, 255, (3, 16, 16), np.uint8)  # channels first, as for PyTorch
    episodes = make_foreign("eyes-v0", spaces.Dict({"left": picture, "right": first}), spaces.Discrete(3))
    with pytest.raises(ValueError, match=r"got left, right; choose one with --picture-key, as in --picture-key left"):
        convert("minari:eyes-v0", tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected a picture under 'top', got pictures under left, right"):
        convert("minari:eyes-v0", tmp_path / "out", picture_key="top")
    assert not (tmp_path / "out").exists()
    convert("minari:eyes-v0", tmp_path / "out", picture_key="right", resolution=16)
    frames = EpisodeDataset(tmp_path / "out").frames(np.arange(4))
    np.testing.assert_array_equal(frames, np.moveaxis(episodes[0]["observations"]["right"], 1, -1))


def test_an_environment_can_be_named(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    make_foreign("cart-v0", env.observation_space, env.action_space)
    convert("minari:cart-v0", tmp_path / "out", env_id="CartPole-v1", env_kwargs={"sutton_barto_reward": True})
    settings = EpisodeDataset(tmp_path / "out").settings[0]
    assert settings["env_ids"] == ["CartPole-v1"] and settings["env_kwargs"] == [["sutton_barto_reward", True]]
    with pytest.raises(ValueError, match=r"expected an environment with the actions of the data set, Discrete\(2\)"):
        convert("minari:cart-v0", tmp_path / "other", env_id="Pendulum-v1")


def test_actions_without_bounds_can_be_given_some(tmp_path: Path) -> None:
    endless = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    episodes = make_foreign("endless-v0", spaces.Box(-1, 1, (3,)), endless)
    with pytest.raises(ValueError, match="expected finite bounds"):
        convert("minari:endless-v0", tmp_path / "out")
    for wrong in ((1.0, 1.0), (0.0, np.inf), (1.0, 2.0, 3.0)):
        with pytest.raises(ValueError, match="action bounds: expected"):
            convert("minari:endless-v0", tmp_path / "out", action_bounds=wrong)
    assert not (tmp_path / "out").exists()
    convert("minari:endless-v0", tmp_path / "out", action_bounds=(-1, 1, 0, 4))
    taken = EpisodeDataset(tmp_path / "out").actions[:3]
    np.testing.assert_allclose(taken, episodes[0]["actions"] * [1, 0.5] - [0, 1], atol=1e-6)


# ---- interruptions and mistakes


def failing(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return counted


def test_a_stopped_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_foreign("long-v0", spaces.Box(-1, 1, (3,)), spaces.Discrete(2), steps=(3, 3, 3, 3))
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(source, "write_shard_files", failing(source.write_shard_files, 3))
        with pytest.raises(KeyboardInterrupt):
            convert("minari:long-v0", out, shard_steps=3)
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "shard-00000", "shard-00001"]
    before = (out / "shard-00001" / "vectors.npy").stat().st_mtime_ns
    (out / ".partial-shard-00002").mkdir()
    seen: list[tuple[int, int]] = []
    convert("minari:long-v0", out, shard_steps=3, on_part=lambda *of: seen.append(of))
    assert seen == [(2, 4), (3, 4), (4, 4)] and not list(out.glob(".*"))
    assert (out / "shard-00001" / "vectors.npy").stat().st_mtime_ns == before
    convert("minari:long-v0", tmp_path / "whole", shard_steps=3)
    whole, again = EpisodeDataset(tmp_path / "whole"), EpisodeDataset(out)
    np.testing.assert_array_equal(whole.vectors, again.vectors)
    np.testing.assert_array_equal(whole.actions, again.actions)
    with pytest.raises(ValueError, match=r"holds other data \(different: shard_steps\); choose a new folder"):
        convert("minari:long-v0", out, shard_steps=4)
    with locked(out), pytest.raises(RuntimeError, match="expected a folder that no other run writes to"):
        convert("minari:long-v0", out, shard_steps=3)


def test_a_stopped_conversion_to_minari_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = recorded(tmp_path / "ours", "CartPole-v1")
    module = sys.modules["grasp_agent.data.foreign.minari"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_buffer", failing(module._buffer, 3))
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "ours", "minari:mine/cart-v0", shard_steps=20)
    assert not list((tmp_path / "minari").rglob("*"))
    convert(tmp_path / "ours", "minari:mine/cart-v0")
    assert minari.load_dataset("mine/cart-v0").total_episodes == len(ours.lengths)
    with pytest.raises(ValueError, match=r"minari:mine/cart-v0: expected a name that is not taken"):
        convert(tmp_path / "ours", "minari:mine/cart-v0")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    make_foreign("bad-v0", spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    h5py: Any = importlib.import_module("h5py")
    with h5py.File(tmp_path / "minari" / "bad-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_0"]["rewards"][1] = np.nan
    with pytest.raises(ValueError, match=r"minari:bad-v0: expected finite rewards, got NaN or infinity in episode 0"):
        convert("minari:bad-v0", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "out", "options", "message"),
    [
        ("minari:none-v0", "out", {}, "expected a Minari data set that is installed, found none"),
        ("minari:none", "out", {}, "expected the name of a Minari data set with its version"),
        ("minari:../none-v0", "out", {}, "expected the name of a Minari data set with its version"),
        ("minari:", "out", {}, "expected a name after the colon"),
        ("minari:a-v0", "minari:b-v0", {}, "expected minari:NAME or lerobot:FOLDER into a data folder"),
        ("ours", "out", {}, "expected minari:NAME or lerobot:FOLDER into a data folder"),
        ("ours", "lerobot:out", {}, "expected minari:NAME or lerobot:FOLDER into a data folder"),
        ("ours", "minari:b", {}, "expected the name of a Minari data set with its version"),
        ("ours", "minari:b-v0", {"resolution": 64}, "resolution: expected none for what becomes a Minari data set"),
        ("ours", "minari:b-v0", {"env_id": "CartPole-v1"}, "expected actions of 1 numbers, as in the data, got 2"),
        ("ours", "minari:b-v0", {"download": True}, "expected a Minari data set to download, got ours"),
        ("minari:small-v0", "out", {"resolution": 0}, "resolution: expected a whole number from 1"),
        ("minari:small-v0", "out", {"env_kwargs": {"a": 1}}, "expected none without an environment"),
        ("minari:odd-v0", "out", {}, "expected observations with a picture or of vectors, got Discrete"),
    ],
)
def test_mistakes_are_one_sentence(
    data: str, out: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_foreign("small-v0", spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    make_foreign("odd-v0", spaces.Discrete(5), spaces.Discrete(2))
    recorded(tmp_path / "ours", "Pendulum-v1", steps=20, shard_steps=20)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError) as caught:
        convert(data, out, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_download_that_fails_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def load_dataset(name: str, download: bool) -> Any:
        asked.append(download)
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(minari, "load_dataset", load_dataset)
    for download, wanted in ((False, "read"), (True, "downloaded")):
        with pytest.raises(ValueError, match=f"a Minari data set that can be {wanted}, got no network at all"):
            convert("minari:b-v0", tmp_path / "out", download=download)
    assert asked == [False, True], "nothing is downloaded unless asked for"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a data folder with dataset\.json"):
        convert(tmp_path / "none", "minari:b-v0")


def test_what_minari_has_no_place_for_is_noted(tmp_path: Path) -> None:
    recorded(tmp_path / "ours", "CartPole-v1")
    for shard in (tmp_path / "ours").glob("shard-*"):  # as older data are
        for name in ("rewards.npy", "terminated.npy", "sha256.json"):
            (shard / name).unlink()
    convert(tmp_path / "ours", "minari:b-v0")
    metadata = json.loads((tmp_path / "minari" / "b-v0" / "data" / "metadata.json").read_text())
    assert json.loads(metadata["grasp_agent"])["settings"]["policy"] == "random"
    convert("minari:b-v0", tmp_path / "back")
    assert EpisodeDataset(tmp_path / "back").rewards is None


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"need the package minari: pip install 'grasp-agent\[minari\]'"):
        convert("minari:b-v0", tmp_path / "out")
    assert not list(tmp_path.iterdir())
