"""Goals from a file or in hindsight take the place of the environment's own; pictures tell when they are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dot_world import ENV_ID, SIDE, DotModel, draw, register
from PIL import Image

from grasp_agent.agent import MPCAgent
from grasp_agent.cli import main
from grasp_agent.planning import GaussNewton
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.picture_goal import GoalImage
from grasp_agent.rollouts.policies import AgentPolicy
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.tasks import task_for
from grasp_agent.tasks.task import GOAL_IMAGE, HINDSIGHT, RENDERED

register()
PLACE = np.array([0.6, -0.4])


@pytest.fixture
def file(tmp_path: Path) -> str:
    Image.fromarray(draw(PLACE)).save(tmp_path / "goal.png")
    return str(tmp_path / "goal.png")


@pytest.mark.parametrize("obs_type", ["pixels", "plain_pixels"])
def test_an_agent_goes_where_the_picture_shows(obs_type: str, file: str) -> None:
    env = make_env(ENV_ID, obs_type=obs_type, limit=40, **{GOAL_IMAGE: file})
    agent = MPCAgent(DotModel(), env.action_space, GaussNewton(), horizon=5)
    steps = list(play(AgentPolicy(agent, task_for(ENV_ID)), [env], [Episode(i, i, i) for i in range(3)]))
    for number in range(3):
        mine = [step for step in steps if step.episode.index == number]
        assert not mine[0].info["is_success"] and mine[-1].info["is_success"]
        assert np.linalg.norm(mine[-1].info["state"] - PLACE) < 0.02
        if obs_type == "pixels":
            assert all(np.array_equal(step.observation["goal"], draw(PLACE)) for step in mine)


def test_success_is_what_is_left_of_the_difference(file: str) -> None:
    env = make_env(ENV_ID, obs_type="pixels", **{GOAL_IMAGE: file})
    env.reset(seed=1)
    dot: Any = env.unwrapped
    for place, solved in ((PLACE, True), (PLACE + 0.03, True), (PLACE - 0.5, False)):
        dot.point = place.copy()
        assert env.step(np.zeros(2, np.float32))[4]["is_success"] is solved
    strict = GoalImage(make_env(ENV_ID, obs_type="pixels"), file, share=0.01)
    strict.reset(seed=1)
    strict.unwrapped.point = PLACE + 0.03  # type: ignore[attr-defined]
    assert strict.step(np.zeros(2, np.float32))[4]["is_success"] is False


def test_a_picture_of_another_size_is_averaged_down(tmp_path: Path) -> None:
    Image.fromarray(draw(PLACE).repeat(3, 0).repeat(3, 1)).save(tmp_path / "large.png")
    env = make_env(ENV_ID, obs_type="pixels", **{GOAL_IMAGE: str(tmp_path / "large.png")})
    assert np.array_equal(env.reset(seed=1)[1]["goal"], draw(PLACE)) and SIDE == 16


def test_hindsight_goals_take_the_place_of_shown_ones() -> None:
    env = make_env(ENV_ID, obs_type="pixels", **{HINDSIGHT: 6})
    first, info = env.reset(seed=2)
    own = make_env(ENV_ID, obs_type="pixels").reset(seed=2)[0]["goal"]
    assert np.array_equal(first["goal"], info["goal"]) and not np.array_equal(first["goal"], own)
    assert np.array_equal(env.step(np.zeros(2, np.float32))[0]["goal"], info["goal"])
    assert info["goal"].shape == first["pixels"].shape and not np.array_equal(info["goal"], first["pixels"])


def test_what_cannot_be_a_goal_is_said(tmp_path: Path, file: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (("missing.png", "no such file"), ("text.png", "cannot identify image file")):
        with pytest.raises(ValueError, match=rf"{name}: expected a picture \(PNG, JPEG or the like\), got .*{reason}"):
            make_env(ENV_ID, **{GOAL_IMAGE: str(tmp_path / name)})
    with pytest.raises(ValueError, match="expected observations with a picture to compare"):
        make_env(ENV_ID, obs_type="plain", **{GOAL_IMAGE: file}).reset(seed=0)
    with pytest.raises(ValueError, match="got both"):
        make_env(ENV_ID, **{GOAL_IMAGE: file, HINDSIGHT: 3})
    env = make_env(ENV_ID, obs_type="pixels")
    Image.fromarray(env.reset(seed=4)[0]["pixels"]).save(tmp_path / "start.png")
    with pytest.raises(ValueError, match="expected a goal to be reached, got the start of seed 4"):
        make_env(ENV_ID, obs_type="pixels", **{GOAL_IMAGE: str(tmp_path / "start.png")}).reset(seed=4)


def test_rendered_pictures_will_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "black.png")
    env = make_env("CartPole-v1", **{RENDERED: 32, GOAL_IMAGE: str(tmp_path / "black.png")})
    frame, info = env.reset(seed=0)
    assert frame.shape == info["goal"].shape == (32, 32, 3) and not info["goal"].any()


def test_the_command_takes_a_picture(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--env", ENV_ID, "--policy", "random", "--episodes", "2"]
    main([*words, "--goal-image", file, "--threads", "1", "--out", str(tmp_path / "out")])
    assert "random" in capsys.readouterr().out
    blind = ["evaluate", "--env", "FrozenLake-v1", "--policy", "random", "--goal-image", file]
    with pytest.raises(SystemExit):
        main([*blind, "--env-arg", "render_mode=ansi", "--out", str(tmp_path / "none")])
    assert "a picture to compare the goal image with" in capsys.readouterr().err and not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        main([*words, "--goal-image", "nowhere.png", "--out", str(tmp_path / "none")])
    assert "goal image nowhere.png: expected a picture" in capsys.readouterr().err and not (tmp_path / "none").exists()
