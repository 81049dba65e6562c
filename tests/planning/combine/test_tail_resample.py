"""Other endings of a plan: where it is cut, what stays, what is tried, and that it only ever gets cheaper."""

from __future__ import annotations

import pytest
import torch
from odd_models import Proposes, SpyModel
from problems import LINEAR, linear_quadratic, pendulum, random_plans, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.planning import TailResample
from grasp_agent.planning.combine.tail_resample import van_der_corput
from grasp_agent.planning.plans import Plans, score
from grasp_agent.planning.rollout import environment_units, select_problem, true_cost

KEYS = make_keys(0, 2)


def coasting(horizon: int = 8):
    return linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=horizon)


def assert_rolled_out(task, plans: Plans) -> None:
    cost, states = true_cost(task, plans.actions)
    torch.testing.assert_close(plans.cost, cost.detach())
    torch.testing.assert_close(plans.states, states.detach())


def test_cuts_follow_the_van_der_corput_sequence() -> None:
    assert [van_der_corput(i) for i in range(1, 9)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8, 1 / 16]


def test_when_it_is_time() -> None:
    assert [TailResample(first=1, every=1).turn(i) for i in range(4)] == [0, 1, 2, 3]
    assert [TailResample(first=1, every=2).turn(i) for i in range(8)] == [0, 1, 0, 2, 0, 3, 0, 4]
    assert [TailResample(first=3, every=4).turn(i) for i in range(12)] == [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]


@pytest.mark.parametrize(("turn", "t"), [(1, 4), (2, 2), (3, 6), (4, 1), (7, 7), (8, 0)])
def test_the_head_stays_exactly_and_the_ending_changes(turn, t) -> None:
    task = coasting()
    plans = score(task, random_plans(task, 3))
    found = TailResample(tails=16).improved(task, plans, KEYS, turn)
    assert torch.equal(found.actions[:, :, :t], plans.actions[:, :, :t])
    assert torch.equal(found.states[:, :, : t + 1], plans.states[:, :, : t + 1])
    changed = (found.actions != plans.actions).any(dim=3)
    better = found.cost < plans.cost
    assert bool(better.any()) and torch.equal(changed[:, :, t:].all(dim=2), better)
    assert bool((found.cost <= plans.cost).all())
    assert_rolled_out(task, found)
    assert float(found.actions.abs().max()) <= 1.0


def test_a_plan_that_cannot_be_improved_stays() -> None:
    task = coasting(horizon=4)
    plans = score(task, random_plans(task, 3))
    claimed = Plans(plans.actions, plans.states, torch.full_like(plans.cost, -1.0))
    found = TailResample().improved(task, claimed, KEYS, 1)
    for name in ("actions", "states", "cost"):
        assert torch.equal(getattr(found, name), getattr(claimed, name))


def test_only_endings_are_rolled_out_all_together() -> None:
    task = coasting()
    plans = score(task, random_plans(task, 3))
    spy = SpyModel(task.model)
    TailResample(tails=5).improved(with_model(task, spy), plans, KEYS, 3)
    assert spy.batches == [2 * 3 * 5] * 2  # two of eight steps are left


def test_endings_are_the_old_one_with_smooth_noise() -> None:
    task = pendulum(horizon=400)
    plans = score(task, torch.full((2, 1, 400, 1), 0.2).double())
    plans = Plans(plans.actions, plans.states, torch.full_like(plans.cost, 1e9))  # whatever is tried is cheaper
    found = TailResample(tails=1, scale=0.1, correlation=0.8).improved(task, plans, KEYS, 1)
    noise = (found.actions[:, 0, 200:, 0] - 0.2) / 0.1
    assert 0.8 < float(noise.std()) < 1.2
    correlation = (noise[:, 1:] * noise[:, :-1]).mean() / noise.square().mean()
    assert 0.7 < float(correlation) < 0.9
    again = TailResample(tails=1, scale=0.1, correlation=0.8).improved(task, plans, make_keys(1, 2), 1)
    assert not torch.allclose(again.actions, found.actions)


def test_each_plan_tries_endings_of_its_own() -> None:
    task = coasting()
    same = random_plans(task, 1).expand(2, 3, 8, 4)
    found = TailResample(tails=6).improved(task, score(task, same.contiguous()), KEYS, 1)
    assert not torch.allclose(found.actions[:, 0], found.actions[:, 1])


@pytest.mark.parametrize("t", [2, 4])
def test_a_model_that_proposes_is_asked_from_where_the_plan_has_led(t) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), batch=1, horizon=8)
    model = Proposes(task.model, spread=0.0)
    task = with_model(task, model)
    plans = score(task, random_plans(task, 2))
    plans = Plans(plans.actions, plans.states, torch.full_like(plans.cost, 1e9))
    found = TailResample(tails=3).improved(task, plans, make_keys(1, 1), {4: 1, 2: 2}[t])
    assert model.asked == 3 and bool((found.actions[:, :, t:] == 0.25).all())
    assert_rolled_out(task, found)
    states, past, goal = model.questions[0]
    frames = torch.cat([task.states[:, :-1].unsqueeze(1).expand(-1, 2, -1, -1), plans.states], dim=2)
    torch.testing.assert_close(states, frames[0, :, t : t + 3])
    torch.testing.assert_close(past, environment_units(task, plans.actions[0, :, t - 2 : t]))
    torch.testing.assert_close(goal, task.goal.expand(2, -1))


@pytest.mark.parametrize(("tails", "horizon"), [(0, 8), (4, 1)])
def test_without_endings_plans_stay(tails, horizon) -> None:
    task = coasting(horizon)
    plans = score(task, random_plans(task, 3))
    spy = SpyModel(task.model)
    assert TailResample(tails=tails).improved(with_model(task, spy), plans, KEYS, 1) is plans and spy.calls == 0


def test_a_row_is_resampled_alone_as_in_a_batch() -> None:
    task = coasting()
    u = random_plans(task, 3)
    together = TailResample().improved(task, score(task, u), KEYS, 1)
    solo = select_problem(task, torch.tensor([1]))
    alone = TailResample().improved(solo, score(solo, u[1:]), KEYS[1:], 1)
    torch.testing.assert_close(alone.actions[0], together.actions[1])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: TailResample(tails=-1), "TailResample.tails: expected a whole number of at least 0, got -1"),
        (lambda: TailResample(first=0), "TailResample.first: expected a whole number of at least 1, got 0"),
        (lambda: TailResample(every=0), "TailResample.every: expected a whole number of at least 1, got 0"),
        (lambda: TailResample(correlation=1.0), "TailResample.correlation: expected a number from 0"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
