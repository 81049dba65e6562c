"""Observations of every form come in, and leave in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closed_loop import PLANNER, make_agent
from dot_world import DotModel, draw, register
from gymnasium import spaces

from grasp_agent.agent.observations import ObservationReader, goal_part, vector_in

register()
GOOD = draw(np.zeros(2))
OTHER = draw(np.array([0.5, -0.5]))
IMAGES, VECTORS = ObservationReader(16), ObservationReader(None)


# ---- observations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["pixels", "image", "observation"])
@pytest.mark.parametrize("goal_key", ["goal", "desired_goal"])
def test_reads_images_and_goals_under_the_usual_keys(key: str, goal_key: str) -> None:
    inputs, goals, batched = IMAGES.read({key: OTHER, goal_key: GOOD, "noise": np.zeros(3)}, None)
    np.testing.assert_array_equal(inputs, OTHER[None])
    np.testing.assert_array_equal(goals, GOOD[None])
    assert not batched


@pytest.mark.parametrize("key", ["observation", "state"])
def test_reads_vectors_under_the_usual_keys(key: str) -> None:
    inputs, goals, batched = VECTORS.read({key: [[1, 2], [3, 4]], "goal": np.array([5, 6])}, None)
    assert (inputs.tolist(), goals.tolist(), batched) == ([[1, 2], [3, 4]], [[5, 6], [5, 6]], True)


def test_images_come_before_vectors_for_a_model_that_sees() -> None:
    both = {"pixels": OTHER, "observation": np.zeros(2), "goal": GOOD}
    np.testing.assert_array_equal(IMAGES.read(both, None)[0], OTHER[None])
    both["goal"] = np.ones(2)
    assert VECTORS.read(both, None)[0].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_channels_may_come_first(batch: int) -> None:
    last = np.stack([OTHER] * batch) if batch else OTHER
    first = np.moveaxis(last, -1, -3)
    assert first.shape[-3:] == (3, 16, 16)
    for form in (last, first):
        inputs, batched = IMAGES.read_array("observation", form)
        np.testing.assert_array_equal(inputs, np.stack([OTHER] * max(batch, 1)))
        assert batched == (batch > 0)


def test_a_given_goal_takes_precedence_and_serves_every_row() -> None:
    given = np.array([[7.0, 8.0]])
    _, goals, _ = VECTORS.read({"observation": np.zeros((3, 2)), "goal": np.ones((3, 2))}, given)
    assert goals.tolist() == [[7.0, 8.0]] * 3


def test_every_row_may_have_a_goal_of_its_own() -> None:
    given = np.arange(6.0).reshape(3, 2)
    assert VECTORS.read(np.zeros((3, 2)), given)[1].tolist() == given.tolist()


def test_torch_tensors_are_arrays_too() -> None:
    assert VECTORS.read_array("goal", torch.ones(2))[0].tolist() == [[1.0, 1.0]]


def test_a_single_observation_gets_the_action_of_a_batch_of_one() -> None:
    agent = make_agent()
    single = {"pixels": draw(np.array([0.3, 0.1])), "goal": draw(np.array([-0.5, 0.0]))}
    action, _ = agent.predict(single)
    batch, _ = agent.predict({name: image[None] for name, image in single.items()})
    assert action.shape == (2,)
    assert action.dtype == np.float32
    np.testing.assert_array_equal(batch, action[None])


def pixels(image: Any) -> dict[str, Any]:
    return {"pixels": image, "goal": GOOD}


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (
            pixels(draw(np.zeros(2), 32)),
            r"expected images of shape \(16, 16, 3\).* got \(32, 32, 3\).*resolution=16",
        ),
        (pixels(GOOD / 255.0), "expected uint8 images .* got dtype float64$"),
        (pixels(np.full((16, 16, 3), np.nan, np.float32)), "uint8 images .* float32 holding NaN"),
        (pixels(np.zeros(2)), "expected uint8 images .* obs_type='pixels'"),
        (pixels(GOOD[..., 0]), r"got \(16, 16\)"),
        (pixels(np.stack([[GOOD]])), r"got \(1, 1, 16, 16, 3\)"),
        (
            {"agent_pos": np.zeros(2)},
            "one of the keys pixels, image, observation, got agent_pos.*obs_type='pixels'",
        ),
        ({}, "one of the keys pixels, image, observation, got an empty one"),
        ({"pixels": GOOD}, "goal: expected one from agent.reset"),
        (GOOD, "goal: expected one from agent.reset"),
        ({"pixels": GOOD, "goal": np.zeros(2)}, "'goal'.*expected uint8 images"),
        ({"pixels": GOOD, "goal": np.stack([GOOD] * 3)}, "goal: expected one or 1 .* got 3"),
    ],
)
def test_says_in_one_sentence_what_is_wrong_with_pixels(observation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_agent().predict(observation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("observation", "error", "message"),
    [
        (np.array([np.nan, 0.0]), ValueError, "finite numbers, got NaN"),
        (np.zeros((1, 2, 2)), ValueError, "expected shape .features. or .batch, features."),
        (np.zeros((0, 2)), ValueError, "expected shape .features. or .batch, features."),
        (np.array(["a", "b"]), TypeError, "array of numbers"),
        ([[1.0, 2.0], [3.0]], TypeError, "observation: expected an array of numbers, got a list that numpy cannot"),
        (np.zeros(3), ValueError, "goal: expected the observation's form"),
        (
            {"observation": np.zeros(2), "desired_goal": np.zeros(1), "achieved_goal": np.zeros(1, "M8[s]")},
            TypeError,
            "observation.'achieved_goal'.: expected an array of numbers, got dtype datetime64",
        ),
        ({"a": np.zeros(1), "b": np.array(["x"])}, TypeError, "observation.'b'.: expected an array of numbers"),
    ],
)
def test_says_in_one_sentence_what_is_wrong_with_vectors(
    observation: Any, error: type[Exception], message: str
) -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.zeros(2))
    with pytest.raises(error, match=message):
        agent.act(observation)


def test_says_what_the_world_model_cannot_encode() -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.zeros(3))
    with pytest.raises(ValueError, match=r"got shape \[3\], which it cannot encode"):
        agent.act(np.zeros(3))


def test_says_what_the_world_model_encodes_wrongly() -> None:
    class Broad(DotModel):
        state_shape = (3,)

    with pytest.raises(ValueError, match=r"world_model.encode: expected latents of shape \[1, 3\], got \[1, 2\]"):
        make_agent(Broad(pixels=False)).predict({"observation": np.zeros(2), "goal": np.ones(2)})


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("goal.png", "goal: expected an array, got 'goal.png'; .* load it first, .*np.asarray"),
        (Path("goal.png"), r"goal: expected an array, got \w*Path\('goal.png'\); .* load it first"),
        ({"pixels": GOOD, "goal": GOOD}, "goal: expected an array, got a dictionary with the keys pixels, goal; try"),
        (torch.ones(2, requires_grad=True), "goal: expected an array of numbers, got a Tensor .* try .detach"),
    ],
)
def test_says_how_to_give_a_goal_and_keeps_the_one_before(goal: Any, message: str, pixels: bool) -> None:
    agent = make_agent(DotModel(pixels=pixels), planner=PLANNER)
    seen, given = (OTHER, GOOD) if pixels else (np.ones(2), np.zeros(2))
    agent.reset(goal=given)
    agent.act(seen)
    with pytest.raises(TypeError, match=message) as caught:
        agent.reset(goal=goal)
    assert "\n" not in str(caught.value)
    assert agent.act(seen).shape == (2,)  # still knows its goal


def test_says_so_too_if_an_observation_holds_a_path() -> None:
    with pytest.raises(TypeError, match=r"observation\['goal'\]: expected an array, got 'goal.png'"):
        make_agent().predict({"pixels": GOOD, "goal": "goal.png"})


# ---- dictionaries of vectors -------------------------------------------------------------------------------


def test_the_achieved_goal_joins_the_observation_where_goals_are_about_other_numbers() -> None:
    shown = {"observation": [1.0, 2.0, 3.0], "achieved_goal": [4.0, 5.0], "desired_goal": [6.0, 7.0]}
    inputs, goals, batched = VECTORS.read({key: np.array(value) for key, value in shown.items()}, None)
    assert (inputs.tolist(), goals.tolist(), batched) == ([[1, 2, 3, 4, 5]], [[0, 0, 0, 6, 7]], False)
    many = {key: np.array([value, value]) for key, value in shown.items()}
    assert VECTORS.read(many, None)[0].shape == (2, 5)


def test_the_achieved_goal_is_left_out_where_goals_are_observations() -> None:
    same = {"observation": np.ones(2), "achieved_goal": np.ones(2), "desired_goal": np.zeros(2)}
    inputs, goals, _ = VECTORS.read(same, None)
    assert (inputs.tolist(), goals.tolist()) == ([[1, 1]], [[0, 0]])


def test_other_dictionaries_of_vectors_are_read_in_the_order_of_their_names() -> None:
    vector, goal = vector_in({"z": np.array([3.0]), "a": np.array([1.0, 2.0]), "goal": np.zeros(3)})
    assert vector.tolist() == [1.0, 2.0, 3.0]
    assert goal is not None and goal.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("shown", [{}, {"goal": np.zeros(2)}, {"speed": np.float64(2.0)}, {"a": np.zeros((2, 2, 3))}])
def test_dictionaries_without_vectors_are_refused(shown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a dictionary of vectors"):
        vector_in(shown)


def test_the_goal_part_says_which_numbers_goals_are_about() -> None:
    def box(size: int) -> spaces.Box:
        return spaces.Box(-1, 1, (size,))

    assert goal_part({"observation": box(4), "achieved_goal": box(2), "desired_goal": box(2)}) == 2
    assert goal_part({"observation": box(2), "achieved_goal": box(2), "desired_goal": box(2)}) == 0
    assert goal_part({"observation": box(4)}) == 0


def test_without_need_of_a_goal_none_is_asked_for_and_none_is_taken() -> None:
    reader = ObservationReader(None, needs_goal=False)
    inputs, goals, _ = reader.read(np.array([1.0, 2.0]), None)
    assert (inputs.tolist(), goals.tolist()) == ([[1, 2]], [[0, 0]])
    assert reader.read({"observation": np.ones(2), "goal": np.ones(2)}, None)[1].tolist() == [[0, 0]]
