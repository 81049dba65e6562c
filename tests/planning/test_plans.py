"""Plans side by side: which is taken, and that nothing gets mixed up on the way."""

from __future__ import annotations

import torch
from problems import LINEAR, linear_quadratic, random_plans

from grasp_agent.core.rng import make_keys
from grasp_agent.planning.plans import Plans, joined, repeated, score, scored_start, start_at


def numbered(cost: list[list[float]], first: float = 0.0) -> Plans:
    """Plans whose actions and states are all the number of the plan, counted over rows."""
    costs = torch.tensor(cost).double()
    number = first + torch.arange(costs.numel()).double().view(costs.shape)
    actions = number[:, :, None, None].expand(*costs.shape, 2, 1)
    states = number[:, :, None, None, None].expand(*costs.shape, 3, 2, 2)  # a latent of shape (2, 2)
    return Plans(actions.contiguous(), states.contiguous(), costs)


def numbers(plans: Plans) -> list[list[float]]:
    first = plans.actions[:, :, :1, :1]
    assert torch.equal(plans.actions, first.expand_as(plans.actions))
    assert torch.equal(plans.states, first.unsqueeze(-1).expand_as(plans.states))
    return first[:, :, 0, 0].tolist()


def test_the_cheapest_and_those_that_are_named() -> None:
    plans = numbered([[3.0, 1.0, 2.0], [1.0, 5.0, 0.0]])
    assert numbers(plans.cheapest()) == [[1.0], [5.0]] and plans.cheapest().cost.tolist() == [[1.0], [0.0]]
    taken = plans.take(torch.tensor([[2, 2], [0, 1]]))
    assert numbers(taken) == [[2.0, 2.0], [3.0, 4.0]] and taken.cost.tolist() == [[2.0, 2.0], [1.0, 5.0]]


def test_the_cheapest_of_each_group() -> None:
    plans = numbered([[3.0, 1.0, 2.0, 0.0, 4.0, 1.0], [1.0, 5.0, 9.0, 8.0, 7.0, 6.0]])
    assert numbers(plans.cheapest_of_each(3)) == [[1.0, 3.0], [6.0, 11.0]]
    assert numbers(plans.cheapest_of_each(2)) == [[1.0, 3.0, 5.0], [6.0, 9.0, 11.0]]
    assert numbers(plans.cheapest_of_each(1)) == numbers(plans)


def test_a_plan_makes_way_for_a_cheaper_one_only() -> None:
    here, there = numbered([[3.0, 1.0], [2.0, torch.inf]]), numbered([[2.0, 1.0], [3.0, torch.inf]], first=10)
    better = here.or_cheaper(there)
    assert numbers(better) == [[10.0, 1.0], [2.0, 3.0]]  # as costly is not cheaper
    assert better.cost.tolist() == [[2.0, 1.0], [2.0, torch.inf]]


def test_plans_side_by_side_and_as_rows() -> None:
    here, there = numbered([[3.0, 1.0], [2.0, 4.0]]), numbered([[9.0], [8.0]], first=10)
    both = joined(here, there)
    assert numbers(both) == [[0.0, 1.0, 10.0], [2.0, 3.0, 11.0]]
    assert both.cost.tolist() == [[3.0, 1.0, 9.0], [2.0, 4.0, 8.0]]
    start = start_at(both)
    assert start.actions[:, 0, 0].tolist() == [0.0, 1.0, 10.0, 2.0, 3.0, 11.0] and start.doubt is None
    assert numbers(start.as_plans) == [[0.0], [1.0], [10.0], [2.0], [3.0], [11.0]]


def test_scored_plans_carry_no_graph() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    u = random_plans(task, 3).requires_grad_(True)
    plans = score(task, u)
    assert not plans.cost.requires_grad and not plans.states.requires_grad
    start = scored_start(task, u[:, 1].detach())
    torch.testing.assert_close(start.cost, plans.cost[:, 1])
    torch.testing.assert_close(start.states, plans.states[:, 1])


def test_keys_of_plans_depend_on_their_row_alone() -> None:
    keys = make_keys(0, 3)
    many = repeated(keys, 4).view(3, 4)
    assert len(many.unique()) == 12
    assert torch.equal(repeated(keys[1:2], 4), many[1])
