"""Random shooting: what it draws, and that it keeps the best."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from odd_models import Proposes, SpyModel
from problems import LINEAR, linear_quadratic, random_plans, with_model

from grasp_agent.core.rng import make_keys, split
from grasp_agent.planning import RandomShooting
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import true_cost, zero_plan

KEYS = make_keys(0, 2)


def block_problem():
    return linear_quadratic(LINEAR["integrator, block 2"](), horizon=4)


def test_it_keeps_the_cheapest_of_random_plans_around_doing_nothing() -> None:
    task = replace(block_problem(), low=torch.full((4,), -0.5).double(), high=torch.full((4,), 1.5).double())
    solver = RandomShooting(samples=6, scale=0.4, correlation=0.7)
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    noise = smooth_noise(task, split(state.keys, 0), 6, 0.7)
    u = (zero_plan(task).unsqueeze(1) + 0.4 * noise).clamp(-1, 1)
    assert float(zero_plan(task)[0, 0, 0]) == -0.5
    cost = true_cost(task, u)[0].detach()
    after, plans = solver.step(task, state)
    torch.testing.assert_close(plans.cost[:, 0], cost.amin(dim=1))
    torch.testing.assert_close(plans.actions[:, 0], u[[0, 1], cost.argmin(dim=1)])
    torch.testing.assert_close(after.plan.cost, torch.minimum(state.plan.cost, cost.amin(dim=1)))
    assert not torch.equal(after.keys, state.keys)


def test_more_draws_never_make_it_costlier_and_sooner_or_later_cheaper() -> None:
    task = block_problem()
    solver = RandomShooting(samples=4)
    state = begun = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    for _ in range(30):
        before = state.plan.cost
        state, _ = solver.step(task, state)
        assert bool((state.plan.cost <= before).all())
    assert bool((state.plan.cost < begun.plan.cost).all())
    torch.testing.assert_close(state.plan.cost, true_cost(task, state.plan.actions.unsqueeze(1))[0][:, 0].detach())
    assert solver.current(task, state) is state.plan


@pytest.mark.parametrize(("samples", "proposed"), [(6, 3), (7, 3), (1, 0)])
def test_half_of_the_plans_are_proposals(samples, proposed) -> None:
    task = block_problem()
    model = Proposes(task.model)
    spy = SpyModel(model)
    spy.proposes, spy.propose = True, model.propose
    solver = RandomShooting(samples=samples)
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    first, _ = solver.step(with_model(task, spy), state)
    assert model.asked == proposed and spy.batches == [2 * samples] * 4
    solver.step(with_model(task, spy), first)
    assert model.asked == 2 * proposed


def test_a_doubtful_plan_is_taken_like_any_other() -> None:
    task = block_problem()
    solver = RandomShooting()
    start = replace(scored_start(task, random_plans(task)), doubt=torch.ones(2, 4).double())
    assert solver.init(task, start, KEYS).plan.doubt is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: RandomShooting(samples=0), "RandomShooting.samples: expected a whole number of at least 1, got 0"),
        (lambda: RandomShooting(scale="big"), "RandomShooting.scale: expected a finite number above 0, got 'big'"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
