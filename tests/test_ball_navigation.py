"""The ball example: its hand-written model is the environment's, and what it says of the planners is true."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from torch import Tensor

from grasp_agent import GRASP, GRASPAgent, WorldModel
from grasp_envs.ball_nav import is_inside_barrier

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ball_navigation.py"
TUNING_SEEDS = range(20_000, 20_005)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("ball_navigation", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def step(example: ModuleType, place: Tensor, action: Tensor) -> Tensor:
    """The model's next states [N, 2] from places [N, 2] by actions [N, 2]."""
    following: Tensor = example.BallModel().predict(place.unsqueeze(1), action.unsqueeze(1))
    return following


# ---------------------------------------------------------------------- the model


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_model_and_environment_agree_step_by_step(example: ModuleType, dtype: torch.dtype, tolerance: float) -> None:
    env = gym.make("grasp_envs/BallNav-v0", disable_env_checker=True).unwrapped
    rng = np.random.default_rng(0)
    before, actions, after = [], [], []
    for episode in range(150):
        place = rng.uniform((-0.8, -0.3), (0.8, 0.3)) if episode % 3 else rng.uniform(-1, 1, 2)
        if is_inside_barrier(*place):
            continue
        env.reset(seed=episode, options={"state": place})
        heading = rng.uniform(-1.3, 1.3, 2)
        for _ in range(30):
            action = np.clip(heading + rng.normal(0, 0.3, 2), -1, 1).astype(np.float32)
            action[rng.random(2) < 0.1] = 0.0
            before.append(env.get_state())  # type: ignore[attr-defined]
            env.step(action)
            actions.append(action)
            after.append(env.get_state())  # type: ignore[attr-defined]
    tensors = (torch.tensor(np.array(numbers)).to(dtype) for numbers in (before, actions, after))
    place_, action_, expected = tensors
    predicted = step(example, place_, action_)
    assert predicted.dtype == dtype
    torch.testing.assert_close(predicted, expected, rtol=0, atol=tolerance)
    stopped = (expected - place_ - 0.1 * action_).abs().amax(1) > 1e-3
    assert 0.1 < stopped.double().mean() < 0.9  # free and stopped motion are both among them


def test_gradients_are_finite_everywhere_and_right_where_known(example: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    places = 2.4 * torch.rand(5000, 2, generator=generator) - 1.2  # virtual states may be anywhere
    actions = 2 * torch.rand(5000, 2, generator=generator) - 1
    actions[::7] = 0.0
    # Faces, sides and borders themselves are the places where something could divide by zero.
    places[::5, 1], places[1::5, 0], places[2::5, 0] = -0.05, 0.6, 1.0
    places.requires_grad_(True)
    actions.requires_grad_(True)
    to_places, to_actions = torch.autograd.grad(step(example, places, actions).square().sum(), (places, actions))
    assert bool(to_places.isfinite().all()) and bool(to_actions.isfinite().all())

    cases = [  # place, action, which coordinates of the next state follow the motion
        ((0.0, -0.5), (0.3, 0.9), (1.0, 1.0)),
        ((0.0, -0.05), (0.3, 0.9), (1.0, 0.0)),
        ((-0.65, 0.0), (0.9, 0.3), (0.0, 1.0)),
        ((0.99, 0.5), (0.9, 0.3), (0.0, 1.0)),
    ]
    for place, action, free in cases:
        by_place, by_action = torch.autograd.functional.jacobian(
            lambda p, a: step(example, p[None], a[None])[0], (torch.tensor(place), torch.tensor(action))
        )
        torch.testing.assert_close(by_place, torch.diag(torch.tensor(free)))
        torch.testing.assert_close(by_action, 0.1 * torch.diag(torch.tensor(free)))


def test_virtual_states_inside_the_barrier_start_at_its_nearest_face(example: ModuleType) -> None:
    places = torch.tensor([[0.0, -0.02], [0.0, -0.02], [0.1, 0.03], [-0.59, 0.0], [0.58, -0.01]])
    actions = torch.tensor([[0.5, 1.0], [0.5, -1.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.5]])
    expected = torch.tensor([[0.05, -0.05], [0.05, -0.15], [0.1, 0.15], [-0.7, 0.0], [0.6, 0.04]])
    torch.testing.assert_close(step(example, places, actions), expected)


def test_the_model_is_a_world_model(example: ModuleType) -> None:
    model = example.BallModel()
    assert isinstance(model, WorldModel)
    observation = torch.tensor([[0.1, -0.4], [0.2, 0.3]])
    assert model.encode(observation) is observation and model.state_shape == (2,)


# ---------------------------------------------------------------------- the planners


def test_the_agent_reaches_every_goal_and_the_greedy_one_is_stuck_beneath(example: ModuleType) -> None:
    agents = example.agents_for(example.BallModel())
    assert isinstance(agents[example.AGENT], GRASPAgent)
    agent = example.play(agents[example.AGENT], TUNING_SEEDS)
    assert agent.solved == [True] * 5
    assert agent.mean_steps < 30
    for path, goal in zip(agent.paths, agent.goals, strict=True):
        assert np.linalg.norm(path[-1] - goal) < 0.1 <= np.linalg.norm(path[:-1] - goal, axis=1).min()

    greedy = example.play(agents[example.GREEDY], TUNING_SEEDS)
    assert greedy.solved == [False] * 5 and greedy.mean_steps == 60
    np.testing.assert_allclose([path[-1][1] for path in greedy.paths], -0.05, rtol=0, atol=1e-6)
    assert all((path[:, 1] < 0).all() for path in greedy.paths)


def test_noise_on_virtual_states_gets_plans_past_the_barrier(example: ModuleType) -> None:
    problem = example.starting_problems(example.BallModel(), range(20_000, 20_010))
    past = {}
    for noise in (0.2, 0.0):
        ends, _ = example.plan_once(example.one_noisy_plan(noise, 96), problem, 96)
        past[noise] = int((ends[:, 1] >= 0.05).sum())
    ends, _ = example.plan_once(example.greedy(), problem, 20)
    assert not bool((ends[:, 1] > 0).any())
    assert past[0.0] <= 2 and past[0.2] >= 5


def test_moments_show_virtual_states_on_both_sides_with_a_gap_between(example: ModuleType) -> None:
    problem = example.starting_problems(example.BallModel(), range(3))
    _, moments = example.plan_once(GRASP.paper(), problem, 4)
    assert [moment.iteration for moment in moments] == [0, 1, 2, 3, 4]
    assert [moment.cost for moment in moments] == sorted((moment.cost for moment in moments), reverse=True)
    start, lifted = problem.states[0, 0].numpy(), moments[0].lifted
    # In the beginning a straight line, start to goal, through the barrier: one step cannot be what the model says.
    assert lifted.states.shape == (41, 2) and lifted.gaps.shape == (40,)
    np.testing.assert_array_equal(lifted.states[[0, -1]], [start, problem.goal[0].numpy()])
    line = start + np.linspace(0, 1, 41)[:, None] * (problem.goal[0].numpy() - start)
    np.testing.assert_allclose(lifted.states, line, rtol=0, atol=0.03)
    model = example.BallModel()
    still = model.predict(torch.tensor(lifted.states[:-1, None]), torch.zeros(40, 1, 2)).numpy()
    np.testing.assert_allclose(lifted.gaps, np.linalg.norm(still - lifted.states[1:], axis=1), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(lifted.leads, np.tile(start, (41, 1)))
    assert moments[-1].lifted.leads[-1, 1] > start[1]

    _, moments = example.plan_once(example.greedy(), problem, 62)
    assert [moment.iteration for moment in moments] == list(range(0, 63, 2))
    assert all(moment.lifted is None for moment in moments)


# ---------------------------------------------------------------------- as users start it


def run(example: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Start the example with these arguments."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["ball_navigation.py", *map(str, arguments)])
    try:
        example.main()
    finally:
        torch.set_num_threads(threads)


def test_it_plans_films_plays_and_draws(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    film, figure = tmp_path / "film.gif", tmp_path / "paths.png"
    run(example, monkeypatch, "--episodes", 1, "--iterations", 12, "--out", film, "--figure", figure)
    printed = capsys.readouterr().out
    for words in ("gradient descent", "GRASP, no noise", "GRASP.paper()", "GRASPAgent", "no lifted phase", "1 of 1"):
        assert words in printed
    frames = imageio.imread(film)
    assert frames.shape[1:] == (432, 800, 3) and len(frames) >= 13
    assert (frames[0, :, :400] != frames[0, :, 400:]).any()
    assert imageio.imread(figure).shape == (432, 800, 3)


def test_films_are_videos_too_and_show_what_is_known_where_it_is(example: ModuleType, tmp_path: Path) -> None:
    path = np.array([[-0.5, -0.5], [0.5, -0.5]])
    lifted = example.LiftedMoment(np.array([[0.0, 0.5], [0.4, 0.5], [0.8, 0.5]]), np.array([0.2, 0.01]), path + 0.25)
    moment = example.Moment(3, 0.25, path, lifted)
    goal = np.array([-0.5, 0.5])
    panel = example.film_panel("name", moment, goal)

    def colour_at(x: float, y: float) -> str:
        return "#" + bytes(panel[32 + round(200 * (1 - y)), round(200 * (1 + x))]).hex()

    assert colour_at(0.0, 0.0) == example.GREY and colour_at(-0.5, 0.5) == example.PALE
    assert colour_at(0.0, -0.5) == example.GREEN and colour_at(-0.5, -0.5) == example.BLUE
    assert colour_at(0.25, -0.25) == example.ORANGE
    assert colour_at(0.4, 0.5) == example.RED and colour_at(0.6, 0.5) == example.RED  # a state, and an unbroken link
    assert colour_at(0.2, 0.5) == "#ffffff"  # a broken one

    film = tmp_path / "film.mp4"
    example.save_film({"left": [moment], "right": [moment, moment]}, goal, film)
    assert film.read_bytes()[4:8] == b"ftyp"


def test_help_teaches_and_wrong_arguments_are_refused(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*arguments: object) -> str:
        with pytest.raises(SystemExit):
            run(example, monkeypatch, *arguments)
        out, error = capsys.readouterr()
        return out + error

    assert all(words in printed("--help") for words in ("virtual states", "reconstruction", "--figure", "Closed loop"))
    assert "expected a path ending in .gif or .mp4, got film.avi" in printed("--out", "film.avi")
    assert "expected a whole number of at least 1, got 0" in printed("--episodes", 0)
