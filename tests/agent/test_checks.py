"""Settings of the wrong kind or out of range are refused in one sentence: expected, got, try."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from closed_loop import PLANNER, SQUARE, make_agent
from dot_world import DotModel

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.checks import usable_device, whole_number


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"horizon": 0}, ValueError, "horizon: expected a whole number of at least 1 .*, got 0"),
        ({"horizon": True}, TypeError, "horizon: expected a whole number of at least 1 .*, got True"),
        ({"horizon": 2.0}, TypeError, "horizon: expected a whole number .*, got 2.0"),
        ({"replan_every": 0}, ValueError, r"replan_every: expected a whole number from 1 to 4 \(the actions .*, got 0"),
        ({"replan_every": 5}, ValueError, "replan_every: expected a whole number from 1 to 4 .*, got 5"),
        ({"replan_every": 1.5}, TypeError, "replan_every: expected a whole number from 1 to 4 .*, got 1.5"),
        ({"seed": "a"}, TypeError, "seed: expected a whole number, got 'a'"),
        ({"seed": None}, TypeError, "seed: expected a whole number, got None"),
        ({"budget": 5}, TypeError, r"budget: expected a Budget or None, got 5; try Budget\(iterations=10\)"),
        ({"first_budget": 0.1}, TypeError, "first_budget: expected a Budget or None, got 0.1; try Budget"),
        ({"device": "gpu"}, ValueError, "device: expected one that torch can use .*, got 'gpu'; try device='cpu'"),
        ({"planner": "grasp"}, TypeError, "planner: expected a planner such as GRASP.* got 'grasp'"),
    ],
)
def test_refuses_settings(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make_agent(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_refuses_cuda_where_there_is_none_and_leaves_the_model_alone() -> None:
    model = DotModel().train()
    with pytest.raises(ValueError, match=r"device: expected one that torch can use .*, got 'cuda'; try device='cpu'"):
        make_agent(model, device="cuda")
    assert model.training


def test_plans_on_the_device_that_is_named() -> None:
    assert make_agent(device="cpu").device == torch.device("cpu")
    assert make_agent(device=torch.device("cpu")).device == torch.device("cpu")
    assert usable_device(None) is None


def test_every_action_of_a_plan_counts_for_replan_every() -> None:
    assert make_agent(DotModel(action_block=3), horizon=4, replan_every=12).replan_every == 12
    with pytest.raises(ValueError, match="from 1 to 12 "):
        make_agent(DotModel(action_block=3), horizon=4, replan_every=13)


def test_numpys_whole_numbers_are_whole() -> None:
    number = whole_number("n", np.int64(3), 1, 3)
    assert (number, type(number)) == (3, int)
    for wrong in (np.float64(3), np.bool_(True)):
        with pytest.raises(TypeError, match="n: expected a whole number"):
            whole_number("n", wrong)


def test_a_refused_reset_changes_nothing() -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.ones(2), seed=3)
    with pytest.raises(TypeError, match="seed: expected a whole number, got 'b'"):
        agent.reset(goal=np.zeros(2), seed="b")  # type: ignore[arg-type]
    assert agent.seed == 3
    assert agent.problem(np.zeros(2)).goal.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("horizon", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_posed_problem_has_a_whole_horizon(horizon: Any, error: type[Exception]) -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.ones(2))
    with pytest.raises(error, match="horizon: expected a whole number of at least 1, got"):
        agent.problem(np.zeros(2), horizon=horizon)


@pytest.mark.parametrize("kind", [MPCAgent, GRASPAgent])
def test_says_what_a_world_model_must_have(kind: type[MPCAgent]) -> None:
    class Half:
        state_shape, history = (2,), 1

        def predict(self) -> None: ...

    expected = r"world_model: expected an object with encode, .* got Half without encode, action_dim, action_block; for"
    with pytest.raises(TypeError, match=expected):
        kind(Half(), SQUARE, PLANNER)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"world_model: .* got str .* try GRASPAgent.from_pretrained"):
        GRASPAgent("pusht", SQUARE)  # type: ignore[arg-type]
