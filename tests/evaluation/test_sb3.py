"""Saved policies of stable-baselines3: told apart, and loaded wherever they were made."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
from dot_world import DotEnv
from gymnasium import spaces

from grasp_agent.evaluation.policies import make_entrants, saved_policy
from grasp_agent.evaluation.sb3 import SHIPPED, algorithm_of, load_policy
from grasp_agent.files import reading
from grasp_agent.files.digest import sha256
from grasp_agent.models.io import PRETRAINED

OFF_POLICY: dict[str, Any] = {"buffer_size": 50, "learning_starts": 5, "batch_size": 4}


def tiny() -> dict[str, Any]:
    """Arguments for a small network; anew each time, as algorithms write into them."""
    return {"policy_kwargs": {"net_arch": [4]}, "seed": 0}


def trained(name: str) -> Any:
    """A policy after a few steps of training: on the dot, or on cart and pole for DQN."""
    algorithm = getattr(sb3, name)
    if name == "DQN":
        return algorithm("MlpPolicy", "CartPole-v1", **tiny(), **OFF_POLICY).learn(10)
    if name in ("PPO", "A2C"):
        small = {"n_steps": 8, "batch_size": 8} if name == "PPO" else {}
        return algorithm("MultiInputPolicy", DotEnv(), **tiny(), **small).learn(8)
    return algorithm("MultiInputPolicy", DotEnv(), **tiny(), **OFF_POLICY).learn(10)


@pytest.fixture(scope="module", params=["PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    model = trained(request.param)
    path = tmp_path_factory.mktemp("policies") / "policy.zip"
    model.save(path)
    return request.param, model, path


def test_the_algorithm_is_told_by_the_file(saved: tuple[str, Any, Path]) -> None:
    name, _, path = saved
    assert algorithm_of(path) == name


def test_a_loaded_policy_acts_as_the_trained_one(saved: tuple[str, Any, Path]) -> None:
    name, model, path = saved
    loaded = load_policy(path, trust=True)
    assert type(loaded).__name__ == name
    observation = model.observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


def test_loading_leaves_the_global_random_generators_alone(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), **tiny()).save(tmp_path / "seeded.zip")
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    first = np.random.rand()  # noqa: NPY002
    load_policy(tmp_path / "seeded.zip", trust=True)
    np.testing.assert_array_equal([first, np.random.rand()], expected)  # noqa: NPY002


def test_a_policy_trained_with_her_loads_without_its_environment(tmp_path: Path) -> None:
    class Goals(DotEnv):
        def __init__(self) -> None:
            super().__init__()
            place = self.observation_space["observation"]
            self.observation_space = spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})

        def _observe(self) -> Any:
            return {**super()._observe(), "achieved_goal": self.point.copy()}

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return -np.linalg.norm(np.asarray(achieved) - desired, axis=-1)

    model = sb3.SAC("MultiInputPolicy", Goals(), replay_buffer_class=sb3.HerReplayBuffer, **tiny(), buffer_size=100)
    model.save(tmp_path / "her.zip")
    observation = model.observation_space.sample()
    loaded = load_policy(tmp_path / "her.zip", trust=True)
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


def test_a_policy_loads_although_its_learning_rate_function_cannot_be_read(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), learning_rate=lambda left: 1e-3 * left, **tiny()).save(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = json.loads(content)
                assert ":serialized:" in data["learning_rate"]
                data["learning_rate"][":serialized:"] = data["lr_schedule"][":serialized:"] = "gASVAA=="
                content = json.dumps(data).encode()
            new.writestr(name, content)
    load_policy(tmp_path / "b.zip", trust=True).predict(DotEnv().observation_space.sample())


def broken_zip(path: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def test_files_that_hold_no_policy_are_named_in_one_sentence(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", DotEnv(), n_steps=8, batch_size=8).save(tmp_path / "whole.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:3000])
    foreign = {"data": json.dumps({"policy_class": {"__module__": "sb3_contrib.tqc.policies"}, "target_entropy": 1})}
    unknown = {"data": json.dumps({"policy_class": {"__module__": "my.policies"}})}
    cases = [
        (tmp_path / "missing.zip", "no such file"),
        (tmp_path / "cut.zip", "damaged or of another format"),
        (broken_zip(tmp_path / "other.zip", {"letter.txt": "dear all"}), "damaged or of another format"),
        (broken_zip(tmp_path / "list.zip", {"data": "[1, 2]"}), "damaged or of another format"),
        (broken_zip(tmp_path / "foreign.zip", foreign), "one of A2C, DDPG, DQN, PPO, SAC, TD3.*sb3_contrib"),
        (broken_zip(tmp_path / "unknown.zip", unknown), "load it in Python and pass the object"),
        (
            broken_zip(tmp_path / "empty.zip", {"data": json.dumps({"policy_class": {}, "clip_range": 1})}),
            "loadable PPO",
        ),
    ]
    for path, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            load_policy(path, trust=True)
        assert "\n" not in str(caught.value)


# ---- trust ---------------------------------------------------------------------------------------------------


class Harm:
    """Pickles as a call that writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    sb3.PPO("MultiInputPolicy", DotEnv(), n_steps=8, batch_size=8, **tiny()).save(tmp_path / "mine.zip")
    return tmp_path / "mine.zip"


def rewritten(source: Path, path: Path, **changes: Any) -> Path:
    """A copy of a policy's file with other entries in its data."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, json.dumps(json.loads(content) | changes) if name == "data" else content)
    return path


@pytest.mark.parametrize("field", ["policy_kwargs", "observation_space", "train_freq", "a field of nobody's"])
def test_a_file_of_others_runs_no_code_until_it_is_trusted(field: str, policy_file: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    pickled = base64.b64encode(pickle.dumps(Harm(harm))).decode()
    hostile = rewritten(policy_file, tmp_path / "hostile.zip", **{field: {":type:": "x", ":serialized:": pickled}})
    told = r"expected a policy that you trust, because .* can run any code when it is loaded; .* add --trust"
    with pytest.raises(ValueError, match=told) as caught:
        load_policy(hostile)
    assert "\n" not in str(caught.value)
    for entrants in ({"x": hostile}, {"x": str(hostile)}):
        with pytest.raises(ValueError, match=told):
            make_entrants(entrants)
    with pytest.raises(ValueError, match=told):
        saved_policy(hostile)
    assert algorithm_of(hostile) == "PPO"
    assert not harm.exists()
    with suppress(ValueError):  # what is left of it may be no policy
        load_policy(hostile, trust=True)
    assert harm.exists(), "the test would not notice"


def test_weights_alone_run_no_code(policy_file: Path, tmp_path: Path) -> None:
    harm, trained_policy = tmp_path / "harm", load_policy(policy_file, trust=True)
    pickled = base64.b64encode(pickle.dumps(Harm(harm))).decode()
    hostile = rewritten(policy_file, tmp_path / "hostile.zip", policy_kwargs={":type:": "x", ":serialized:": pickled})
    policy = sb3.PPO("MultiInputPolicy", DotEnv(), **tiny())  # as the message says
    observation = policy.observation_space.sample()
    policy.set_parameters(str(hostile))
    assert not harm.exists()
    expected = trained_policy.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose(policy.predict(observation, deterministic=True)[0], expected, atol=1e-6)
    assert make_entrants({"x": policy})["x"].describe()["kind"] == "PPO"


def test_trust_reaches_the_file(policy_file: Path) -> None:
    trusted = [saved_policy(policy_file, trust=True), make_entrants({"x": policy_file}, trust=True)["x"]]
    assert trusted[0].describe() == trusted[1].describe() == {"kind": "PPO", "file": sha256(policy_file)[:16]}
    assert make_entrants({"x": trusted[0]})["x"] is trusted[0]


def test_what_ships_is_known_by_its_content_and_needs_no_trust(tmp_path: Path) -> None:
    shipped = sorted(PRETRAINED.rglob("*.zip"))
    assert shipped and {sha256(path) for path in shipped} == SHIPPED, "name the shipped policies in SHIPPED"
    for path in shipped:
        assert type(load_policy(path)).__name__ == algorithm_of(path)
    changed = tmp_path / shipped[0].name
    changed.write_bytes(shipped[0].read_bytes() + b"\n")
    with pytest.raises(ValueError, match="expected a policy that you trust"):
        load_policy(changed)


def test_archives_that_would_fill_the_memory_are_refused(
    policy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed(path: Path | io.BytesIO, name: str, content: bytes) -> Any:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data", json.dumps({"policy_class": {}, "clip_range": 1}))
            archive.writestr(name, content)
        return path

    nothing = bytes(1_000_000)
    bomb = packed(tmp_path / "bomb.zip", "policy.pth", nothing)
    inner = packed(io.BytesIO(), "data/0", nothing).getvalue()
    nested = packed(tmp_path / "nested.zip", "policy.pth", inner)
    monkeypatch.setattr(reading, "SMALL", 500_000)
    for path in (bomb, nested):
        with pytest.raises(ValueError, match=rf"{path.name}: expected an archive that grows at most 100 times"):
            load_policy(path, trust=True)
    monkeypatch.setattr(reading, "UNPACKED_LIMIT", 10_000)
    with pytest.raises(ValueError, match=r"mine\.zip: expected at most 10 kB when unpacked, got [0-9.]+ kB"):
        load_policy(policy_file, trust=True)
