"""What plans lead to: the serial rollout, all steps at once, and the parts, rows and units of a problem."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from odd_models import Broken, Integrator, SpyModel
from problems import LINEAR, linear_quadratic, obstacle, pendulum, random_plans, with_model

from grasp_agent.planning import rollout
from grasp_agent.planning.rollout import (
    environment_units,
    frozen,
    latent_scale,
    normalised_units,
    one_step,
    part_of,
    problem_from,
    repeat_problem,
    rollout_cost,
    select_problem,
    true_cost,
    zero_plan,
)


def coasting_problem(horizon: int = 5):
    """History 3 and blocks of 2: what an off-by-one would break first."""
    return linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=horizon, bound=0.5)


def test_rollout_reads_the_whole_history() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=3)
    actions = random_plans(task, 4)
    states = rollout(task, actions)
    assert states.shape == (2, 4, 4, 2)
    for b in range(2):
        for m in range(4):
            frames, past = list(task.states[b]), [*task.past_actions[b], *actions[b, m]]
            for t in range(3):
                window = torch.stack(frames[-3:])[None], torch.stack(past[t : t + 3])[None]
                frames.append(task.model.predict(*window)[0])
            torch.testing.assert_close(states[b, m], torch.stack(frames[2:]))
    torch.testing.assert_close(rollout(task, actions[:, 0]), states[:, 0])


def test_a_rollout_is_one_call_a_step_for_all_plans() -> None:
    task = linear_quadratic(LINEAR["integrator"](), batch=3, horizon=6)
    spy = SpyModel(task.model)
    rollout(with_model(task, spy), random_plans(task, 5))
    assert spy.batches == [15] * 6


def test_along_a_rollout_one_step_predicts_the_rollout() -> None:
    task = coasting_problem()
    u = random_plans(task)
    states = rollout(task, environment_units(task, u))
    spy = SpyModel(task.model)
    torch.testing.assert_close(one_step(with_model(task, spy), u, states[:, 1:-1]), states[:, 1:])
    assert spy.batches == [2 * 5]


def test_costs_are_those_of_the_rollout_and_infinite_where_it_breaks() -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), bound=0.5), Broken())
    far = task.states.clone()
    far[0] = 100.0
    u = random_plans(task, 3)
    cost, states = true_cost(replace(task, states=far), u)
    assert cost[0].isinf().all() and cost[1].isfinite().all()
    expected = task.objective.trajectory_cost(states[1, :, 1:], 0.5 * u[1], task.goal[1].expand(3, -1))
    torch.testing.assert_close(cost[1], expected)
    torch.testing.assert_close(rollout_cost(task, u, states)[1], expected)


@pytest.mark.parametrize("t", [0, 1, 3])
def test_the_rest_of_a_problem_leads_on_like_the_whole(t) -> None:
    task = coasting_problem()
    u = random_plans(task, 3)
    states = rollout(task, environment_units(task, u))
    rest = problem_from(task, u, states, t)
    assert rest.batch == 6 and rest.horizon == 5 - t
    led = rollout(rest, environment_units(rest, u.flatten(0, 1)[:, t:]))
    torch.testing.assert_close(led, states.flatten(0, 1)[:, t:])
    torch.testing.assert_close(rest.goal, task.goal.repeat_interleave(3, dim=0))


@pytest.mark.parametrize("begin", [0, 2, 3])
def test_a_part_of_a_plan_is_predicted_like_the_whole(begin) -> None:
    task = coasting_problem(horizon=7)
    u = random_plans(task)
    s = rollout(task, environment_units(task, random_plans(task, seed=1)))[:, 1:-1]  # not what u leads to
    part, some, between = part_of(task, u, s, begin, 4)
    assert part.horizon == 4
    torch.testing.assert_close(one_step(part, some, between), one_step(task, u, s)[:, begin : begin + 4])


def test_rows_are_repeated_side_by_side_and_selected() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), batch=3)
    twice = repeat_problem(task, 2)
    for name in ("states", "past_actions", "goal"):
        values = getattr(task, name)
        assert torch.equal(getattr(twice, name), values[[0, 0, 1, 1, 2, 2]])
        assert torch.equal(getattr(select_problem(task, torch.tensor([2, 0])), name), values[[2, 0]])
        assert torch.equal(getattr(select_problem(task, torch.tensor([False, True, True])), name), values[1:])
    assert repeat_problem(task, 1) is task


def test_units_of_actions() -> None:
    task = replace(obstacle(), low=torch.tensor([-2.0, 0.5]).double(), high=torch.tensor([4.0, 0.5]).double())
    u = torch.tensor([[-1.0, 0.7], [0.0, 0.0], [0.5, -1.0]]).double()
    actions = environment_units(task, u)
    assert actions.tolist() == [[-2.0, 0.5], [1.0, 0.5], [2.5, 0.5]]
    assert normalised_units(task, actions).tolist() == [[-1.0, 0.0], [0.0, 0.0], [0.5, 0.0]]
    assert normalised_units(task, actions + 100)[:, 0].tolist() == [1.0] * 3


def test_the_zero_plan_is_clipped_to_the_bounds() -> None:
    task = replace(obstacle(), low=torch.tensor([0.25, -1.0]).double(), high=torch.tensor([2.0, 3.0]).double())
    u = zero_plan(task)
    assert u.shape == (2, task.horizon, 2)
    # 0.25 is as near to zero as allowed; zero is a quarter into [-1, 3]
    assert u[0, 0].tolist() == [-1.0, -0.5]


def test_the_unit_of_latents_is_the_root_mean_square_of_goal_minus_present() -> None:
    task = linear_quadratic(LINEAR["patches"]())
    now = task.states[:, -1] + 1e3  # where it is does not matter, only how far the goal is
    gap = torch.tensor([3.0, 0.0]).double().view(2, 1, 1) * torch.ones(2, 3, 2).double()
    gap[0, 0, 0] = -9.0
    away = latent_scale(replace(task, states=now.unsqueeze(1), goal=now + gap))
    torch.testing.assert_close(away, torch.tensor([math.sqrt((5 * 9 + 81) / 6), 1e-6]).double())


def test_weights_are_frozen_only_meanwhile() -> None:
    task = pendulum()
    model = LINEAR["integrator"]()
    model.on_states.requires_grad_(False)
    with pytest.raises(RuntimeError, match="model broke"), frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError("model broke")
    assert [p.requires_grad for p in model.parameters()] == [False, True]
    for without_weights in (task.model, Integrator(), SpyModel(model)):
        with frozen(without_weights):
            pass
