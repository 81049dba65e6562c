"""The planning benchmark: budgets in iterations, evaluations that disturb nothing, counting, resuming, refusing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dot_world import ENV_ID, LIMIT, DotModel, register
from tiny_model import TINY
from torch import Tensor

from grasp_agent.benchmark.calibration import Timing
from grasp_agent.benchmark.contestants import (
    SPACES,
    ablations,
    describe,
    draw_trials,
    equal_parts,
    load_settings,
    planners,
)
from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.benchmark.episodes import (
    Contestant,
    Entry,
    Episodes,
    anytime,
    checkpoints,
    closed_rows,
    reached_test,
)
from grasp_agent.benchmark.episodes import open_rows as open_loop_rows
from grasp_agent.benchmark.report import write_report
from grasp_agent.benchmark.rows import ClosedRow, OpenRow
from grasp_agent.benchmark.stages import Benchmark
from grasp_agent.benchmark.summaries import summarise_closed, summarise_open
from grasp_agent.cli import main
from grasp_agent.core.types import Budget
from grasp_agent.evaluation.statistics import mcnemar_exact
from grasp_agent.files.records import Records
from grasp_agent.models import LatentWorldModel, save_pretrained
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import (
    CEM,
    GRASP,
    PLANNERS,
    GaussNewton,
    GradientDescent,
    MultiStart,
    RobustChoice,
    TailResample,
    solve,
    with_settings,
)
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.policies import following

register()

GD = MultiStart(GradientDescent(), restarts=2, candidates=2, refresh=1)
PUSHT = GoalEnv()
SMALL_CEM = MultiStart(CEM(samples=8, elites=2), restarts=1, candidates=4, refresh=0)


def tiny(**changes: Any) -> LatentWorldModel:
    torch.manual_seed(0)
    return LatentWorldModel(replace(TINY, **changes)).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_pretrained(tiny(), tmp_path_factory.mktemp("model")))


# ---- time limits ---------------------------------------------------------------------------------------------


def test_a_time_limit_is_worth_the_iterations_that_fit() -> None:
    timing = Timing(fixed=1.0, steps=(0.5, 0.25, 0.25, 1.0))  # 0.5 on average
    assert [timing.seconds(n) for n in (0, 1, 3, 4, 6)] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert [timing.iterations(limit) for limit in (1.5, 1.74, 1.75, 2.99, 3.0, 3.49, 3.5, 4.0)] == [
        1, 1, 2, 3, 4, 4, 5, 6,
    ]  # fmt: skip
    assert timing.iterations(0.1) == 1, "at least one, however short the time"
    assert Timing.from_json(json.loads(json.dumps(timing.to_json()))) == timing


def test_checkpoints_double_and_end_with_the_last_iteration() -> None:
    assert checkpoints(1) == [0, 1]
    assert checkpoints(24) == [0, 1, 2, 4, 6, 8, 12, 16, 24]
    assert checkpoints(7) == [0, 1, 2, 4, 6, 7]


# ---- one plan ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", [GD, SMALL_CEM, GRASP(restarts=2, candidates=2)], ids=["gd", "cem", "grasp"])
def test_evaluations_change_nothing_and_see_what_a_shorter_solve_returns(planner: Any) -> None:
    world, seeds, keys = CountingModel(tiny()), [3, 4], torch.tensor([3, 4])
    with Episodes(PUSHT, world, 10, seeds) as episodes:
        problem = episodes.problem(planner, GoalDistance())
    world.calls = world.rows = 0
    plan, found, counted = anytime(planner, problem, keys, 5)
    for iterations in (2, 5):
        world.calls = world.rows = 0
        expected, search = solve(planner, problem, Budget(iterations=iterations), seed=keys)
        assert torch.equal(found[iterations].cost[:, 0], search.cost)
    assert torch.equal(plan.actions, expected.actions)
    assert counted == (world.calls, world.rows), "evaluations on the way are not counted"


def test_predictions_are_counted_those_made_for_proposals_too() -> None:
    world = tiny(proposal_hidden=8, proposal_depth=1, proposal_steps=8)
    truth = 0
    plain = world.dynamics.forward

    def watched(states: Tensor, actions: Tensor) -> Tensor:
        nonlocal truth
        truth += len(states)
        return plain(states, actions)  # type: ignore[no-any-return]

    world.dynamics.forward = watched  # type: ignore[method-assign]
    counting = CountingModel(world)
    with Episodes(PUSHT, counting, 12, [3]) as episodes:
        _, _, counted = anytime(SMALL_CEM, episodes.problem(SMALL_CEM, GoalDistance()), torch.tensor([3]), 1)
        # The evaluation before the first iteration predicts nothing, so all that was predicted is counted.
        assert counted[1] == truth > 0
        assert not CountingModel(world, proposals=False).proposes


def test_problems_are_posed_from_the_first_picture_and_plans_are_carried_out() -> None:
    world = CountingModel(tiny())
    with Episodes(PUSHT, world, 10, [3, 4]) as episodes:
        problem = episodes.problem(GD, GoalDistance())
        assert problem.states.shape == (2, 3, 6) and problem.horizon == 10
        assert torch.equal(problem.states[:, 0], problem.states[:, 2]) and not problem.past_actions.any()
        pictures = episodes.seen["pixels"]
        assert pictures.shape == (2, 16, 16, 3)
        still = np.zeros((2, 10, 2), np.float32)
        solved = episodes.play(following(list(still)), step_limit=10)
    assert [len(steps) for steps in solved] == [10, 10]
    with Episodes(PUSHT, world, 10, [4]) as alone:
        assert np.array_equal(alone.seen["pixels"][0], pictures[1]), "an episode is its seed's"


@pytest.mark.parametrize("obs_type", ["pixels", "plain"])
def test_goals_that_the_environment_sets_are_planned_for_with_its_exact_model(obs_type: str) -> None:
    world, where = DotModel(pixels=obs_type == "pixels"), GoalEnv(ENV_ID, {"obs_type": obs_type})
    newton = Contestant(MultiStart(GaussNewton(), restarts=1, candidates=0, refresh=0))
    plan = Entry("newton", newton, where, 12, GoalDistance(running=0.0), iterations=4)
    seconds = [0.1, 0.2, 0.3, 0.4, 0.5]
    plans = open_loop_rows(plan, 0.05, seconds, world, [1, 2, 3])
    assert [(row.goal, row.real_success, row.model_success) for row in plans] == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    short = open_loop_rows(replace(plan, horizon=1), 0.05, seconds, world, [1, 2, 3])
    assert not any(row.real_success for row in short), "goals are more than a step away"
    played = closed_rows(replace(plan, horizon=3, objective=GoalDistance(), iterations=2), 3, 9.0, world, [1, 2, 3])
    assert all(row.success and 1 < row.steps < LIMIT for row in played)


def test_what_plans_are_judged_by_is_the_agents_objective_and_its_end_alone(model: str, tmp_path: Path) -> None:
    classic = Benchmark(model, tmp_path, GoalEnv("grasp_envs:grasp_envs/PushT-v0"), progress=False)
    assert classic.objective.weights is not None and classic.objective.running > 0
    assert torch.equal(classic.final_distance.weights, classic.objective.weights)  # type: ignore[arg-type]
    assert classic.final_distance.running == 0
    reach = Benchmark(model, tmp_path, progress=False)
    assert reach.final_distance.weights is None
    weighed = save_pretrained(tiny(distance_weights=(0.0, 0.0, 0.5, 1.0, 1.0, 1.0)), tmp_path / "weighed")
    assert Benchmark(str(weighed), tmp_path, progress=False).final_distance.weights.tolist() == [0, 0, 1, 1, 1, 1]  # type: ignore[union-attr]


def test_an_environment_without_goals_leaves_no_folder(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected goals, .* got none"):
        Benchmark(model, tmp_path / "out", GoalEnv("CartPole-v1"))
    assert not (tmp_path / "out").exists()


def test_success_under_the_model_is_the_environments_tolerance() -> None:
    goal = np.array([200.0, 200.0, 300.0, 300.0, 0.5])
    moved = [
        ([19.9, 0, 0, 0, 0], True),
        ([15, 0, 0, 15, 0], False),  # 21 px over the four numbers together
        ([0, 0, 0, 0, np.radians(19.9)], True),
        ([0, 0, 0, 0, np.radians(-20.1)], False),
    ]
    latents = torch.from_numpy(PLANAR_PUSH.latents_of_states(np.array([goal + change for change, _ in moved])))
    target = torch.from_numpy(PLANAR_PUSH.latents_of_states(goal)).expand_as(latents)
    assert PLANAR_PUSH.reaches(latents, target).tolist() == [there for _, there in moved]
    assert torch.equal(reached_test(tiny(), None)(latents, target), PLANAR_PUSH.reaches(latents, target))
    near = reached_test(tiny(layout="free", state_size=4), 0.5)
    assert near(torch.tensor([[0.4] * 4, [0.6] * 4]), torch.zeros(2, 4)).tolist() == [True, False]
    with pytest.raises(ValueError, match="try --threshold"):
        reached_test(tiny(layout="free", state_size=4), None)


# ---- summaries -----------------------------------------------------------------------------------------------


def open_rows(outcomes: dict[str, tuple[int, ...]], horizon: int = 40) -> list[OpenRow]:
    """Plans that meet the goal or not, looked at before and after two iterations."""
    return [
        OpenRow(
            name, horizon, goal, real_success=1 - ok, real_success_any=1, iterations=2, model_success=ok,
            iterations_to_success=1 if ok else None, seconds_to_success=0.1 * goal if ok else None, cost=1.0,
            model_calls=3, model_rows=9.0, curve=f"0:0.1:2.0:0 1:0.2:1.0:{int(goal == 0)} 2:0.3:1.0:{ok}",
        )
        for name, ok_all in outcomes.items()
        for goal, ok in enumerate(ok_all)
    ]  # fmt: skip


def test_summaries_pair_the_same_goals() -> None:
    outcomes = {"grasp": (1, 1, 1, 1, 1, 1), "cem": (0, 0, 0, 0, 0, 1)}
    rows = open_rows(outcomes)
    assert rows[0].points() == [(0, 0.1, 2.0, 0), (1, 0.2, 1.0, 1), (2, 0.3, 1.0, 1)]
    grasp, cem = summarise_open(rows, ["grasp", "cem"])
    assert grasp.model_success.value == 1.0
    assert grasp.seconds_to_success == pytest.approx(0.25) and grasp.p_model is None
    assert cem.seconds_to_success == pytest.approx(0.5) and cem.real_success.value == pytest.approx(5 / 6)
    assert cem.p_model == mcnemar_exact(outcomes["grasp"], outcomes["cem"])
    closed = [ClosedRow(n, 40, g, 50.0, 3, ok, 7 + g) for n, oks in outcomes.items() for g, ok in enumerate(oks)]
    grasp_closed, cem_closed = summarise_closed(closed, ["grasp", "cem"])
    assert (grasp_closed.success.value, grasp_closed.steps, grasp_closed.p_steps) == (1.0, 9.5, None)
    assert (cem_closed.success.value, cem_closed.p_success) == (pytest.approx(1 / 6), cem.p_model)
    assert (cem_closed.steps, cem_closed.p_steps) == (9.5, 1.0)


def test_over_all_horizons_a_seed_counts_once() -> None:
    near, far = {"grasp": (1, 1, 1), "cem": (0, 0, 0), "mppi": (0, 0, 0)}, {"grasp": (1, 1, 1), "cem": (0, 0, 1)}
    summaries = summarise_open([*open_rows(near), *open_rows(far, 80)], ["grasp", "cem", "mppi"])
    assert [(s.horizon, s.planner) for s in summaries] == [
        (40, "grasp"), (40, "cem"), (40, "mppi"), (80, "grasp"), (80, "cem"), (None, "grasp"), (None, "cem")
    ]  # fmt: skip
    cem = summaries[-1]
    assert cem.goals == 6 and cem.model_success.value == pytest.approx(1 / 6)
    assert cem.p_model == 2 / 2**3  # differences 2, 2 and 1: of eight ways to flip signs, two are as far from zero
    assert cem.iterations == 2


def test_contestants_are_told_apart_by_their_parts() -> None:
    described = [describe(Contestant(p)) for p in (GD, replace(GD, solver=GradientDescent(rate=0.2)), GD)]
    assert described[0] == described[2] != described[1]
    assert describe(Contestant(GD)) != describe(Contestant(GD, proposals=False))
    assert json.loads(json.dumps(described)) == described


def test_equal_parts_leave_nothing_but_the_solvers_different() -> None:
    parts = MultiStart(GaussNewton(), restarts=6, halving=((2, 3),), select=RobustChoice(0.01), iterations=9)
    shared = equal_parts({"gd": Contestant(GD, False), "cem": Contestant(SMALL_CEM, False)}, parts)
    assert [c.planner.solver for c in shared.values()] == [GD.solver, SMALL_CEM.solver]
    assert {replace(c.planner, solver=parts.solver, iterations=9) for c in shared.values()} == {parts}
    assert not any(c.proposals for c in shared.values())


def test_ablations_change_one_thing_at_a_time() -> None:
    full = GRASP()
    variants = ablations(Contestant(full))
    assert next(iter(variants)) == "full" and variants["full"].planner == full
    assert all(v.planner != full for name, v in variants.items() if name != "full")
    assert "no halving" not in variants, "there is none to leave out"
    assert variants["state gradients"].planner == with_settings(full, {"solver.then.stop_gradient": False})
    assert variants["no other endings"].planner == replace(full, resample=None)
    with pytest.raises(ValueError, match="ablation: expected GRASP"):
        ablations(Contestant(GD))


# ---- the stages ----------------------------------------------------------------------------------------------


def test_a_killed_stage_goes_on_to_the_same_rows(model: str, tmp_path: Path) -> None:
    contestants = {"gd": Contestant(GD), "cem": Contestant(SMALL_CEM)}
    bench = Benchmark(model, tmp_path / "a", batch=2, progress=False)
    whole = bench.open_loop(contestants, [6], [5, 6, 7], 0.02)
    written = (tmp_path / "a" / "open.csv").read_text()
    assert [(row.planner, row.goal) for row in whole] == [(n, g) for n in ("gd", "cem") for g in (5, 6, 7)]

    (tmp_path / "a" / "open.csv").unlink()  # killed after the first batch
    Records(tmp_path / "a", "open", OpenRow, None).append(whole[:2])
    again = Benchmark(model, tmp_path / "a", batch=2, workers=2, progress=False)
    assert again.open_loop(contestants, [6], [5, 6, 7], 0.02) == whole
    assert (tmp_path / "a" / "open.csv").read_text() == written

    other = {"gd": Contestant(replace(GD, refresh=0))}
    with pytest.raises(ValueError, match=r"with other contestants\.gd\.planner"):
        again.open_loop(other, [6], [5], 0.02)
    with pytest.raises(ValueError, match="with other seconds"):
        again.open_loop(contestants, [6], [5], 0.5)
    assert (tmp_path / "a" / "open.csv").read_text() == written


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that notes its actions and calls itself solved after as many steps as its seed says."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.seed, self.actions = seed, list[Any]()
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        *result, info = super().step(action)
        self.actions.append(action)
        return *result, {**info, "is_success": len(self.actions) == self.seed}


def test_who_has_finished_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Watched] = []

    def watched(*args: Any) -> tuple[Watched, dict[str, Any]]:
        env, kwargs = open_env(*args)
        made.append(Watched(env))
        return made[-1], kwargs

    open_env = GoalEnv.open
    monkeypatch.setattr(GoalEnv, "open", watched)
    world = tiny()
    entry = Entry("cem", Contestant(SMALL_CEM), PUSHT, 5, GoalDistance(), iterations=2)
    rows = closed_rows(entry, 25, 20.0, world, [3, 7, 50])
    assert [(row.goal, row.success, row.steps) for row in rows] == [(3, 1, 3), (7, 1, 7), (50, 0, 10)]
    assert [row.limit for row in rows] == [20.0] * 3
    closed_rows(entry, 25, 20.0, world, [50])
    together, alone = np.stack(made[2].actions), np.stack(made[3].actions)
    assert together.shape == (10, 2) and np.ptp(together) > 0.1
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_to_pose_a_problem_again_begins_no_episode_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment takes for it would count as time of the planner."""
    begun: list[int] = []
    plain = GoalEnv.begin

    def begin(self: GoalEnv, env: gym.Env[Any, Any], seed: int) -> dict[str, Any]:
        begun.append(seed)
        return plain(self, env, seed)

    monkeypatch.setattr(GoalEnv, "begin", begin)
    with Episodes(PUSHT, CountingModel(tiny()), 10, [3, 4]) as episodes:
        first, again = (episodes.problem(GD, GoalDistance()) for _ in range(2))
    assert begun == [3, 4] and torch.equal(first.states, again.states) and torch.equal(first.goal, again.goal)


def test_closed_loop_rows_are_kept(model: str, tmp_path: Path) -> None:
    bench = Benchmark(model, tmp_path, batch=2, progress=False)
    rows = bench.closed_loop({"cem": Contestant(SMALL_CEM)}, [5], [5, 6], [20])
    assert [(row.goal, row.milliseconds) for row in rows] == [(5, 20.0), (6, 20.0)]
    written = (tmp_path / "closed.csv").read_text()
    assert bench.closed_loop({"cem": Contestant(SMALL_CEM)}, [5], [5, 6], [20]) == rows
    assert (tmp_path / "closed.csv").read_text() == written


def test_tuning_tries_equally_often_and_keeps_off_the_reported_goals(model: str, tmp_path: Path) -> None:
    world = tiny()
    assert draw_trials("cem", world, 6) == draw_trials("cem", world, 6) and draw_trials("cem", world, 6)[0] == {}
    for trial in draw_trials("cem", world, 6)[1:]:
        assert trial.keys() == SPACES["cem"].keys()
        with_settings(PLANNERS["cem"](world), trial)
    with pytest.raises(ValueError, match="trials of shooting's search space"):
        draw_trials("shooting", world, 200)
    for name in SPACES:  # every declared field and value is one that the planner takes
        for field, values in SPACES[name].items():
            for value in values:
                others = {"solver.samples": 256} if field == "solver.elites" else {}
                others |= {"restarts": 8} if field == "halving" else {}
                with_settings(PLANNERS[name](world), {**others, field: value})
    bench = Benchmark(model, tmp_path, progress=False)
    with pytest.raises(ValueError, match="try another --tune-seed"):
        bench.tune(["shooting"], [5], [7, 8], 0.01, 2, reported=[8, 9])
    content = bench.tune(["shooting"], [5], [7], 0.01, 2, reported=[8])
    trials = content["planners"]["shooting"]["trials"]
    best = max(trials, key=lambda t: (t["in_time"], t["model_success"] + t["real_success"], -t["mean_cost"]))
    assert len(trials) == 2 and content["planners"]["shooting"]["chosen"] == best["settings"]
    chosen = load_settings(tmp_path / "tuning.json")
    (made,) = planners(["shooting"], bench.world_model, chosen).values()
    assert made.planner == with_settings(PLANNERS["shooting"](world), best["settings"])
    with pytest.raises(ValueError, match="setting 'speed': expected one of solver, restarts"):
        planners(["cem"], bench.world_model, {"cem": {"speed": 3}})
    parts = {"halving": [[2, 4]], "resample": {"tails": 4, "first": 2, "every": 3, "scale": 0.5, "correlation": 0.9}}
    (tmp_path / "parts.json").write_text(json.dumps({"planners": {"grasp": {"chosen": parts}}}))
    read = load_settings(tmp_path / "parts.json")
    assert read == {"grasp": {"halving": ((2, 4),), "resample": TailResample(4, first=2, every=3)}}
    content["planners"]["shooting"]["chosen"] = {"solver.samples": 5}  # by hand, so none of the trials
    (tmp_path / "tuning.json").write_text(json.dumps(content))
    write_report(tmp_path)
    share = f"{100 * trials[0]['model_success']} %"
    assert f"| shooting | 2 | {share} | - | solver.samples 5 |" in (tmp_path / "table.md").read_text()


def test_the_command_writes_table_and_plots(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "bench --quick --stage open --planner gd --planner shooting --horizon 5 --goals 2 --seconds 0.02 --workers 1"
    )
    main([*words.split(), "--model", model, "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "| H | gd | shooting |" in shown and "| 5 |" in shown
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(row["planner"], row["goals"]) for row in results["summary"]["open"]] == [("gd", 2), ("shooting", 2)]
    assert len(results["calibration"]) == 2
    for name in ("open_success.png", "open_success_seconds.png", "open_cost_seconds.png", "table.md"):
        assert (tmp_path / name).stat().st_size > 0
