"""Settings of the wrong kind or out of range are refused in one sentence: expected, got, try."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from closed_loop import PLANNER, SQUARE, make_agent, vector
from dot_world import DotModel

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.checks import usable_device, whole_number
from grasp_agent.objectives import GoalDistance
from grasp_agent.planning import CEM, GradientDescent, MultiStart


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"horizon": 0},
            ValueError,
            r"horizon: expected a whole number from 1 to 10000 \(model steps to look ahead\), got 0",
        ),
        ({"horizon": True}, TypeError, "horizon: expected a whole number from 1 to 10000 .*, got True"),
        ({"horizon": 2.0}, TypeError, "horizon: expected a whole number .*, got 2.0"),
        ({"replan_every": 0}, ValueError, r"replan_every: expected a whole number from 1 to 4 \(the actions .*, got 0"),
        ({"replan_every": 5}, ValueError, "replan_every: expected a whole number from 1 to 4 .*, got 5"),
        ({"replan_every": 1.5}, TypeError, "replan_every: expected a whole number from 1 to 4 .*, got 1.5"),
        ({"seed": "a"}, TypeError, "seed: expected a whole number, got 'a'"),
        ({"seed": None}, TypeError, "seed: expected a whole number, got None"),
        ({"budget": 5}, TypeError, r"budget: expected a Budget or None, got 5; try Budget\(iterations=10\)"),
        ({"first_budget": 0.1}, TypeError, "first_budget: expected a Budget or None, got 0.1; try Budget"),
        ({"objective": 5}, TypeError, r"objective: expected one such as GoalDistance\(\), got 5"),
        ({"objective": GoalDistance}, TypeError, r"objective: expected one such as GoalDistance\(\), got <class"),
        ({"horizon": 10**400}, ValueError, r"horizon: expected a whole number from 1 to 10000 .*, got 1000+\.\.\."),
        ({"device": "meta"}, ValueError, "device: expected one that torch can use .*, got 'meta'"),
        ({"device": 1j}, ValueError, "device: expected one that torch can use .*, got '1j'"),
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
    with pytest.raises(error, match="horizon: expected a whole number from 1 to 10000, got"):
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("history", 0, "world_model.history: expected a whole number from 1 to .*, got 0"),
        ("action_block", 1.0, "world_model.action_block: expected a whole number .*, got 1.0"),
        ("action_dim", True, "world_model.action_dim: expected a whole number .*, got True"),
        ("state_shape", 2, r"world_model.state_shape: expected a tuple of whole numbers such as \(6,\), got 2"),
        ("state_shape", (0,), "world_model.state_shape: expected a whole number .*, got 0"),
    ],
)
def test_refuses_world_models_whose_sizes_are_none(name: str, value: Any, message: str) -> None:
    model = DotModel(pixels=False)
    setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=message):
        make_agent(model)


@pytest.mark.parametrize("flags", ["yes", [0.5], [np.nan], [[True, False], [1]]])
def test_flags_of_episodes_are_true_or_false(flags: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="episode_start: expected"):
        make_agent(DotModel(pixels=False)).predict(vector(0.5), episode_start=flags)


@pytest.mark.parametrize(
    "options", [{"horizon": 5}, {"planner": MultiStart(CEM(), restarts=2)}, {"planner": MultiStart(GradientDescent())}]
)
def test_the_memory_of_another_agent_is_refused(options: dict[str, Any]) -> None:
    _, state = make_agent(DotModel(pixels=False), **options).predict(vector(0.5))
    agent = make_agent(DotModel(pixels=False))
    with pytest.raises(ValueError, match=r"(state|search): expected one of "):
        agent.predict(vector(0.5), state)


@pytest.mark.parametrize(
    ("rows", "executed", "message"),
    [
        ([3], np.zeros((2, 2)), "select: expected indices of 2 rows, or a mask of them, got"),
        ([True], np.zeros((2, 2)), "select: expected indices of 2 rows"),
        (5, np.zeros((2, 2)), "select: expected indices of 2 rows"),
        (torch.ones(2, requires_grad=True), np.zeros((2, 2)), "select: expected indices of 2 rows"),
        ([0], "left", "with_last_action: expected an array of numbers, got 'left'"),
        ([0], np.full((2, 2), np.nan), "with_last_action: expected finite numbers, got NaN"),
    ],
)
def test_corrections_of_a_memory_are_checked(rows: Any, executed: Any, message: str) -> None:
    _, state = make_agent(DotModel(pixels=False)).predict(vector(0.5, 0.1))
    with pytest.raises((TypeError, ValueError), match=message):
        state.with_last_action(executed).select(rows)


def test_an_empty_batch_of_pictures_is_refused() -> None:
    empty = np.zeros((0, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected at least one image, got an empty batch of shape \(0, 16, 16, 3\)"):
        make_agent(DotModel()).predict({"pixels": empty, "goal": empty})


@pytest.mark.parametrize("dtype", [">f8", np.longdouble, np.float16])
def test_vectors_of_any_real_dtype_are_read(dtype: Any) -> None:
    plain, _ = make_agent(DotModel(pixels=False)).predict(vector(0.5))
    odd, _ = make_agent(DotModel(pixels=False)).predict({k: v.astype(dtype) for k, v in vector(0.5).items()})
    np.testing.assert_allclose(odd, plain, atol=1e-6)
