"""What the pictures of a plan say: names, units and paths come from the task, and only where it knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny_model import TINY

from grasp_agent.explain import pictures
from grasp_agent.explain.explain import Explanation, explain, plan_table
from grasp_agent.models import LatentWorldModel
from grasp_agent.planning import GradientDescent, MultiStart
from grasp_agent.tasks import DEFAULT_TASK


def explained(**changes: Any) -> Explanation:
    torch.manual_seed(0)
    model = LatentWorldModel(replace(TINY, **changes)).eval()
    return explain(model, MultiStart(GradientDescent(), restarts=2), 3, goal_horizon=5, iterations=3)


@pytest.fixture(scope="module")
def poses() -> Explanation:
    return explained()


@pytest.fixture(scope="module")
def free() -> Explanation:
    return explained(layout="free", state_size=4)


def elsewhere(explanation: Explanation) -> Explanation:
    """The same, as if it came from an environment of which nothing is known."""
    settings = {**explanation.report["settings"], "environment": "walks/Walk-v0"}
    return replace(explanation, report={**explanation.report, "settings": settings})


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_paths_are_where_things_were(poses: Explanation) -> None:
    figure = pictures._draw_path(poses)
    states = np.stack([info["state"] for info in poses.replay.infos])
    predicted = poses.plan.states[0].numpy() * 20.0 + 255.5  # the layout's unit and centre
    for axis in figure.axes:
        lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axis.get_lines()}
        assert set(lines) == {"pusher, real", "body, real", "pusher, predicted", "body, predicted"}
        np.testing.assert_allclose(lines["pusher, real"], states[:, :2], atol=1e-2)
        np.testing.assert_allclose(lines["body, real"], states[:, 2:4], atol=1e-2)
        np.testing.assert_allclose(lines["body, predicted"], predicted[:, 2:4], atol=1e-2)
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("x [px]", "y [px]")
        assert axis.get_xlim() == (0, 512) and axis.get_ylim() == (512, 0)


def test_a_free_latent_has_no_predicted_path(free: Explanation) -> None:
    for axis in pictures._draw_path(free).axes:
        assert [line.get_label() for line in axis.get_lines()] == ["pusher, real", "body, real"]


def test_nothing_is_said_of_a_task_that_is_not_known(poses: Explanation) -> None:
    unknown = elsewhere(poses)
    figure = pictures._draw_path(unknown)
    assert not any(axis.get_lines() for axis in figure.axes) and not figure.legends
    assert not any("px" in text for text in words(pictures._draw_states(unknown)))


def test_no_paths_are_drawn_on_a_scene_of_unknown_size(poses: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_task", lambda explanation: replace(DEFAULT_TASK, scene_side=None))
    figure = pictures._draw_path(poses)
    assert not any(axis.get_lines() or axis.axison for axis in figure.axes) and not figure.legends


def test_errors_stand_beside_what_they_are_of(poses: Explanation, free: Explanation) -> None:
    real = {"success": False, "success_at_any_step": False, "pusher_px": 1.04, "body_px": 20.0, "body_deg": 3.0}
    report = {**poses.report, "real": real, "predicted": {**real, "body_deg": 4.0}}
    said = words(pictures._draw_states(replace(poses, report=report)))
    assert "goal not reached\npusher 1.0 px, body 20.0 px, 3.0 deg" in said
    assert any(text.startswith("cost ") and text.endswith("\npusher 1.0 px, body 20.0 px, 4.0 deg") for text in said)
    assert [text for text in words(pictures._draw_states(free)) if text.startswith("cost ") and "px" in text] == []


@pytest.mark.parametrize(
    ("real", "outcome"),
    [
        ({"success": True, "success_at_any_step": True, "first_success_step": 4}, "goal reached"),
        (
            {"success": False, "success_at_any_step": True, "first_success_step": 4},
            "goal reached at step 4, then left",
        ),
        ({"success": False, "success_at_any_step": False, "first_success_step": None}, "goal not reached"),
    ],
)
def test_the_outcome_in_words(real: dict[str, Any], outcome: str, poses: Explanation) -> None:
    assert pictures._outcome(real, poses) == outcome


def test_every_axis_says_what_it_shows(poses: Explanation) -> None:
    figure = pictures._draw_cost(poses)
    labels = [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes]
    cost, error = "true rollout cost [latent units²]", "mean squared error [latent units²]"
    assert labels == [("planner iteration", cost), ("restart", cost), ("environment step", error)]
    (best,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "best so far")
    np.testing.assert_allclose(np.asarray(best.get_ydata(), float), poses.cost_trace, rtol=1e-6)
    (gap,) = (line for line in figure.axes[2].get_lines() if line.get_label() == "rollout against real frames")
    np.testing.assert_allclose(np.asarray(gap.get_ydata(), float), poses.prediction_error[1:], rtol=1e-6)


def trusting(explanation: Explanation, steps: int | None) -> Explanation:
    """The same, as if the model were to be believed so far."""
    return replace(explanation, report={**explanation.report, "trusted_steps": steps})


def test_what_lies_beyond_the_trusted_steps_is_shaded(poses: Explanation) -> None:
    figure = pictures._draw_cost(trusting(poses, 2))
    (span,) = figure.axes[-1].patches
    assert tuple(span.get_extents().transformed(figure.axes[-1].transData.inverted()).intervalx) == pytest.approx(
        (2, 5)
    )
    assert "model not to be believed" in [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]

    figure = pictures._draw_states(trusting(poses, 2))
    shown = [[image.get_alpha() for image in axis.get_images()] for axis in figure.axes]
    columns = 1 + len(poses.replay.frames)
    rows = [
        [image for cell in shown[start : start + columns] for image in cell] for start in range(0, len(shown), columns)
    ]
    for row in rows[1:-1]:
        assert row == [1.0, 1.0, 1.0, 0.6, 0.6, 0.6]  # steps 0 to 5
    assert rows[-1] == [1.0] * 6  # what really happened is no prediction
    assert any("later than step 2" in text for text in words(figure))


@pytest.mark.parametrize("steps", [None, 5, 50])
def test_nothing_is_shaded_where_all_is_believed_or_nothing_is_known(steps: int | None, poses: Explanation) -> None:
    told = trusting(poses, steps)
    assert not pictures._draw_cost(told).axes[-1].patches
    figure = pictures._draw_states(told)
    assert {image.get_alpha() for axis in figure.axes for image in axis.get_images()} == {1.0}


@pytest.mark.parametrize(
    ("steps", "caption"), [(2, "the model is to be believed up to step 2"), (5, None), (None, None)]
)
def test_the_table_says_so_as_well(steps: int | None, caption: str | None, poses: Explanation) -> None:
    assert plan_table(trusting(poses, steps).report).caption == caption
