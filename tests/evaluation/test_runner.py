"""Evaluations: the same episodes for everyone, counted rightly, and never lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from dot_world import ENV_ID, LIMIT, DotEnv, DotModel, register
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.evaluation import evaluate
from grasp_agent.evaluation.results import Results
from grasp_agent.files.lock import locked
from grasp_agent.models import LatentWorldModel, WorldModelConfig
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import GRASP, GradientDescent, MultiStart
from grasp_agent.tasks import task_for

register()
SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)
SEEDS = [3, 4, 5]
DESCENT = MultiStart(GradientDescent(), restarts=2, refresh=1)


@pytest.fixture
def threads_put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def make_agent(**options: Any) -> MPCAgent:
    options = {"planner": DESCENT, "horizon": 4, "budget": Budget(iterations=8), **options}
    return MPCAgent(DotModel(), SQUARE, **options)


def deterministic(results: Results) -> list[tuple[Any, ...]]:
    """Everything in the rows but the times."""
    return [astuple(row)[:-2] for row in results.rows]


class Script:
    """A policy that plays the given actions, one list per episode, and notes what it is handed."""

    def __init__(self, *episodes: list[tuple[float, float]]) -> None:
        self.episodes = iter(episodes)
        self.calls: list[tuple[Any, bool]] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        self.calls.append((state, bool(episode_start[0])))
        if episode_start[0]:
            self.actions = iter(next(self.episodes))
        return np.array(next(self.actions, (0.0, 0.0)), np.float32), len(self.calls)


def test_workers_play_the_same_episodes(tmp_path: Path) -> None:
    task = {"env_id": "grasp_envs:grasp_envs/PushTReach-v0", "env_kwargs": {"goal_horizon": 5}}
    sizes = {"encoder_channels": 4, "encoder_keypoints": 4, "encoder_hidden": 8, "dynamics_hidden": 8}
    model = LatentWorldModel(WorldModelConfig(image_size=16, state_size=4, decoder_channels=0, **sizes))  # type: ignore[arg-type]
    agent = GRASPAgent(model, SQUARE, GRASP(restarts=2, candidates=1), horizon=3, budget=Budget(iterations=2))
    entrants = {"agent": agent, "expert": "expert"}
    here = evaluate(entrants, seeds=SEEDS, progress=False, **task)  # type: ignore[arg-type]
    there = evaluate(entrants, seeds=SEEDS, progress=False, out=tmp_path, workers=2, **task)  # type: ignore[arg-type]
    assert deterministic(here) == deterministic(there)
    with open(tmp_path / "results.csv") as file:
        assert len(list(csv.reader(file))) == 1 + 6
    with pytest.raises(TypeError, match=r"cannot be pickled.*try workers=1"):
        evaluate({"local": Local()}, ENV_ID, SEEDS, progress=False, workers=2)
    with pytest.raises(ValueError, match="Dot"):  # registered in this process only
        evaluate(["zero"], ENV_ID, SEEDS, progress=False, workers=2)
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        evaluate(["zero"], ENV_ID, SEEDS, workers=0)


class Local:
    """A policy that stays in this process."""

    def __init__(self) -> None:
        self.handle = (number for number in range(3))

    def predict(self, *_: Any, **__: Any) -> tuple[Any, Any]:
        return np.zeros(2, np.float32), None


def there_and_away(seed: int, way: int) -> list[tuple[float, float]]:
    """Actions to the goal in `way` steps, and on the next step far away from it."""
    env = DotEnv()
    env.reset(seed=seed)
    step = (env.goal - env.point) / 0.2 / way
    away = -np.sign(env.goal)
    return [tuple(step)] * way + [tuple(away)] * 2  # type: ignore[return-value]


def test_success_return_coverage_and_steps_are_counted_rightly() -> None:
    way = 12
    policy = Script(there_and_away(3, way))
    row = evaluate({"script": policy}, ENV_ID, [3], progress=False).rows[0]

    env = DotEnv()
    env.reset(seed=3)
    rewards, solved = [], []
    for action in (there_and_away(3, way) + [(0.0, 0.0)] * LIMIT)[:LIMIT]:
        _, reward, _, _, info = env.step(np.array(action, np.float32))
        rewards.append(reward)
        solved.append(info["is_success"])
    assert any(solved)
    assert not solved[-1]
    assert (row.success, row.success_final, row.steps) == (1, 0, LIMIT)
    assert row.steps_to_success == solved.index(True) + 1
    assert row.total_return == pytest.approx(sum(rewards))
    assert row.best_progress == 1.0
    assert row.latency_p95_ms >= row.latency_p50_ms > 0


def test_a_policys_memory_travels_within_an_episode_and_not_beyond() -> None:
    policy = Script([], [])
    evaluate({"script": policy}, ENV_ID, [3, 4], env_kwargs={"limit": 3}, progress=False)
    assert policy.calls == [(None, True), (1, False), (2, False), (None, True), (4, False), (5, False)]


def test_everyone_plays_the_same_episodes_on_its_own_observation() -> None:
    policy = sb3.PPO("MultiInputPolicy", DotEnv(), n_steps=8, batch_size=8, seed=0)
    entrants = {"gd": make_agent(), "ppo": policy, "random": "random", "zero": "zero", "expert": "expert"}
    results = evaluate(entrants, ENV_ID, SEEDS, progress=False)
    assert [(row.episode, row.entrant) for row in results.rows] == [(e, n) for e in range(3) for n in entrants]
    rates = {summary.entrant: summary.success.value for summary in results.summary()}
    assert rates["gd"] == rates["expert"] == 1.0
    assert rates["zero"] == 0.0
    kinds = {name: facts["env_kwargs"] for name, facts in results.settings["entrants"].items()}
    assert kinds["gd"]["obs_type"] == "pixels"
    assert kinds["ppo"] == kinds["zero"] == {}
    assert deterministic(evaluate(entrants, ENV_ID, SEEDS, progress=False)) == deterministic(results)


def test_an_episode_does_not_depend_on_who_else_plays_or_on_earlier_episodes() -> None:
    together = evaluate({"zero": "zero", "gd": make_agent(), "random": "random"}, ENV_ID, SEEDS, progress=False)
    for name, entrant in (("gd", make_agent()), ("random", "random")):
        alone = evaluate({name: entrant}, ENV_ID, [5], progress=False).rows[0]
        assert astuple(alone)[2:-2] == astuple(together.of(name)[2])[2:-2]


def test_evaluate_policy_of_stable_baselines3_finds_the_same_return() -> None:
    row = evaluate({"gd": make_agent()}, ENV_ID, [5], progress=False).rows[0]
    env = Monitor(DotEnv("pixels"))
    env.reset(seed=5)
    first = env.unwrapped.point.copy(), env.unwrapped.goal.copy()

    class SameStart(DotEnv):
        def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
            super().reset(**kwargs)
            self.point, self.goal = (place.copy() for place in first)
            return self._observe(), self._info()

    returns, _ = evaluate_policy(make_agent(), Monitor(SameStart("pixels")), 1, return_episode_rewards=True)
    assert returns == pytest.approx([row.total_return], abs=1e-5)


def test_an_agent_is_told_the_goal_where_observations_hold_none() -> None:
    class PlainPixels(DotEnv):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__("plain_pixels", **kwargs)

    import gymnasium as gym

    gym.register("tests/PlainDot-v0", entry_point=PlainPixels)
    try:
        results = evaluate({"gd": make_agent()}, "tests/PlainDot-v0", SEEDS, progress=False)
    finally:
        gym.registry.pop("tests/PlainDot-v0")
    assert [row.success for row in results.rows] == [1, 1, 1]


def test_episodes_that_differ_between_entrants_are_refused() -> None:
    class Drifting(DotEnv):
        count = 0

        def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
            super().reset(**kwargs)
            Drifting.count += 1
            self.point = self.point + 0.01 * Drifting.count
            return self._observe(), self._info()

    import gymnasium as gym

    gym.register("tests/Drifting-v0", entry_point=Drifting)
    try:
        with pytest.raises(ValueError, match=r"'zero' and 'random': expected the same episode.*different 'state'"):
            evaluate(["zero", "random"], "tests/Drifting-v0", [1], progress=False)
    finally:
        gym.registry.pop("tests/Drifting-v0")


def test_environments_without_success_are_compared_by_return() -> None:
    results = evaluate(["zero", "random"], "Pendulum-v1", [1, 2], progress=False)
    assert {(row.success, row.success_final, row.steps_to_success) for row in results.rows} == {(None, None, None)}
    zero, random = results.summary()
    assert zero.success is None and zero.return_difference is None
    gains = [b.total_return - a.total_return for a, b in zip(results.of("zero"), results.of("random"), strict=True)]
    assert random.return_difference is not None
    assert random.return_difference.value == pytest.approx(sum(gains) / 2)


def test_known_tasks_must_tell_success() -> None:
    with pytest.raises(ValueError, match="is_success"):
        task_for("grasp_envs/PushT-v0").solved({})
    assert task_for("Pendulum-v1").solved({}) is None
    assert task_for("Pendulum-v1").solved({"success": True}) is True


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1]])
def test_seeds_must_be_different_and_not_negative(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="different non-negative integers"):
        evaluate(["random"], ENV_ID, seeds, progress=False)


# ---- surviving ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import dot_world
from grasp_agent.evaluation import evaluate

dot_world.register()
steps = 0
plain_step = dot_world.DotEnv.step

def step(self, action):
    global steps
    steps += 1
    if steps == {fatal}:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain_step(self, action)

dot_world.DotEnv.step = step
evaluate(["expert", "random", "zero"], dot_world.ENV_ID, {seeds}, out={out!r}, progress=False)
"""


def test_a_killed_run_goes_on_without_losing_or_repeating_an_episode(tmp_path: Path) -> None:
    out, reference = tmp_path / "killed", tmp_path / "whole"
    fatal = 4 * LIMIT + 7  # four episodes are done: all of the first three, the first entrant's of the next
    code = KILLED.format(tests=str(Path(__file__).parents[1]), fatal=fatal, seeds=SEEDS, out=str(out))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    survived = [part.read_text().splitlines()[1] for part in sorted((out / "results.parts").iterdir())]
    assert len(survived) == 4
    assert "summary" not in json.loads((out / "results.json").read_text())

    resumed = evaluate(["expert", "random", "zero"], ENV_ID, SEEDS, out=out, progress=False)
    whole = evaluate(["expert", "random", "zero"], ENV_ID, SEEDS, out=reference, progress=False)
    assert (out / "results.csv").read_text().splitlines()[1:5] == survived
    assert sorted(path.name for path in out.iterdir()) == ["results.csv", "results.json"]
    assert deterministic(resumed) == deterministic(whole)
    with open(out / "results.csv", newline="") as one, open(reference / "results.csv", newline="") as other:
        assert [row[:-2] for row in csv.reader(one)] == [row[:-2] for row in csv.reader(other)]
    assert len(json.loads((out / "results.json").read_text())["summary"]) == 3


def test_a_finished_run_is_read_back_without_playing(tmp_path: Path) -> None:
    first = evaluate({"script": Script([], [])}, ENV_ID, [1, 2], out=tmp_path, progress=False)
    again = evaluate({"script": Script()}, ENV_ID, [1, 2], out=tmp_path, progress=False)
    assert again.rows == first.rows


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": [2]}, "seeds"),
        ({"batch": 2}, "batch"),
        ({"threads": 2}, "threads"),
        ({"env_kwargs": {"limit": 3}}, "env_kwargs"),
        ({"first_budget": Budget(iterations=9)}, r"entrants\.gd\.first_budget\.iterations"),
        ({"objective": GoalDistance(weights=torch.tensor([1.0, 0.5]))}, r"entrants\.gd\.objective"),
        ({"objective": GoalDistance(running=0.0)}, r"entrants\.gd\.objective"),
        ({"planner": MultiStart(GradientDescent(), restarts=3)}, r"entrants\.gd\.planner"),
    ],
)
@pytest.mark.usefixtures("threads_put_back")
def test_a_run_with_other_settings_is_not_continued(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    def run(**changed: Any) -> None:
        options = {name: changed.pop(name) for name in ("first_budget", "objective", "planner") if name in changed}
        torch.set_num_threads(changed.pop("threads", 1))
        arguments = {"seeds": [1], "env_kwargs": {"limit": 2}, **changed}
        evaluate({"gd": make_agent(**options)}, ENV_ID, out=tmp_path, progress=False, **arguments)

    run()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"same settings to continue, got one with other {named}"):
        run(**changes)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    run()


def test_entrants_and_episodes_are_added_to_a_finished_run(tmp_path: Path) -> None:
    out, at_once = tmp_path / "added", tmp_path / "at_once"
    evaluate(["zero"], ENV_ID, [1], out=out, progress=False)
    beside = evaluate(["random"], ENV_ID, [1], out=out, progress=False)
    assert [entrant.entrant for entrant in beside.summary()] == ["zero", "random"]
    assert beside.summary()[1].difference is not None, "the first of the folder is the one to compare to"
    longer = evaluate(["random", "zero"], ENV_ID, [1, 2], out=out, progress=False)
    whole = evaluate(["zero", "random"], ENV_ID, [1, 2], out=at_once, progress=False)
    assert deterministic(longer) == deterministic(whole)
    described = [json.loads((folder / "results.json").read_text()) for folder in (out, at_once)]
    assert described[0]["settings"] == described[1]["settings"]


def test_no_entrant_is_left_behind_when_episodes_are_added(tmp_path: Path) -> None:
    evaluate(["zero", "random"], ENV_ID, [1], out=tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="expected 'zero' among the entrants, too, which has played 1 of 2 episodes"):
        evaluate(["random"], ENV_ID, [1, 2], out=tmp_path, progress=False)
    with pytest.raises(ValueError, match="got one with other seeds"):
        evaluate(["zero", "random"], ENV_ID, [2, 1], out=tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(RuntimeError, match=f"no other run writes to, but process {os.getpid()} does"),
    ):
        evaluate(["zero"], ENV_ID, [1], out=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_middle_keeps_the_episodes_done(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        evaluate({"script": Script([])}, ENV_ID, [1, 2], out=tmp_path, progress=False)
    resumed = evaluate({"script": Script([])}, ENV_ID, [1, 2], out=tmp_path, progress=False)
    assert [row.episode for row in resumed.rows] == [0, 1]


# ---- batches -----------------------------------------------------------------------------------------------


def test_a_batch_plays_the_same_episodes(tmp_path: Path) -> None:
    seeds = [3, 4, 5, 6, 7, 8, 9]
    entrants = {"gd": make_agent(), "random": "random", "expert": "expert"}
    one_by_one = evaluate(entrants, ENV_ID, seeds, progress=False)
    together = evaluate(entrants, ENV_ID, seeds, progress=False, batch=3, out=tmp_path)
    assert [(row.entrant, row.episode) for row in together.rows] == [(n, e) for e in range(7) for n in entrants]
    for a, b in zip(one_by_one.rows, together.rows, strict=True):
        assert replace(a, total_return=0.0, latency_p50_ms=0.0, latency_p95_ms=0.0) == replace(
            b, total_return=0.0, latency_p50_ms=0.0, latency_p95_ms=0.0
        )
        assert a.total_return == pytest.approx(b.total_return, abs=1e-4)
    with open(tmp_path / "results.csv", newline="") as file:
        rows = [(int(row["episode"]), row["entrant"]) for row in csv.DictReader(file)]
    assert rows == [(episode, name) for episode in range(7) for name in entrants], "in order, whoever was ready first"


def test_a_batch_decides_once_for_all_its_episodes() -> None:
    model = DotModel()
    batches: list[int] = []
    encode = model.encode

    def watched(observations: Any) -> Any:
        batches.append(len(observations))
        return encode(observations)

    model.encode = watched  # type: ignore[method-assign]
    agent = MPCAgent(model, SQUARE, DESCENT, horizon=4, budget=Budget(iterations=2))
    evaluate({"gd": agent}, ENV_ID, [3, 4, 5, 6, 7], env_kwargs={"limit": 3}, progress=False, batch=2)
    # Five episodes of three steps in two slots: two, two, and the last one alone; goals are encoded besides.
    assert sorted(batches[-3:]) == [1, 1, 1] and batches.count(2) >= 6


def test_a_batch_is_resumed(tmp_path: Path) -> None:
    class Interrupted(Script):
        """Ends in Ctrl-C at the given call."""

        def __init__(self, fatal: int | None) -> None:
            super().__init__([], [], [], [])
            self.fatal = fatal

        def predict(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if len(self.calls) == self.fatal:
                raise KeyboardInterrupt
            return super().predict(*args, **kwargs)

    seeds, kwargs = [1, 2, 3, 4], {"limit": 2}
    with pytest.raises(KeyboardInterrupt):
        evaluate({"a": Interrupted(7)}, ENV_ID, seeds, env_kwargs=kwargs, out=tmp_path, progress=False, batch=2)
    assert len(list((tmp_path / "results.parts").iterdir())) == 2
    rest = Interrupted(None)
    results = evaluate({"a": rest}, ENV_ID, seeds, env_kwargs=kwargs, out=tmp_path, progress=False, batch=2)
    assert [row.seed for row in results.rows] == seeds and len(rest.calls) == 4


def test_a_batch_cannot_share_seconds() -> None:
    for options in ({"budget": Budget(seconds=0.1)}, {"first_budget": Budget(seconds=0.1)}):
        with pytest.raises(
            ValueError, match=r"entrant 'gd': expected a budget of iterations with batch 2.*try batch 1"
        ):
            evaluate({"gd": make_agent(**options)}, ENV_ID, SEEDS, progress=False, batch=2)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        evaluate(["zero"], ENV_ID, SEEDS, progress=False, batch=0)


def test_the_progress_bar_goes_to_the_standard_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(["zero"], ENV_ID, [1, 2])
    captured = capsys.readouterr()
    assert "2/2" in captured.err
    assert captured.out == ""


# ---- Push-T ------------------------------------------------------------------------------------------------


def test_push_t_with_everyone(tmp_path: Path) -> None:
    model = LatentWorldModel(
        WorldModelConfig(image_size=32, state_size=4, encoder_channels=4, encoder_hidden=16, dynamics_hidden=16)
    )
    agent = GRASPAgent(model, SQUARE, GRASP(), horizon=3, budget=Budget(iterations=2))
    kwargs = {"goal_horizon": 5}
    from grasp_agent.rollouts.environments import make_env

    env = make_env("grasp_envs/PushTReach-v0", **kwargs)
    sac = sb3.SAC("MultiInputPolicy", env, buffer_size=10, policy_kwargs={"net_arch": [4]}, seed=0)
    sac.save(tmp_path / "sac.zip")
    entrants = {"grasp": agent, "sac": tmp_path / "sac.zip", "zero": "zero", "expert": "expert"}
    results = evaluate(entrants, "grasp_envs/PushTReach-v0", [0, 1], env_kwargs=kwargs, progress=False, trust=True)
    assert len(results.rows) == 8
    assert all(row.steps == 10 for row in results.rows)
    assert [row.success for row in results.of("zero")] == [0, 0]
    assert results.settings["entrants"]["grasp"]["env_kwargs"] == {
        "goal_horizon": 5,
        "obs_type": "pixels",
        "resolution": 32,
    }
