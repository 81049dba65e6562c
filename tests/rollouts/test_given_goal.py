"""Goals from a file, a function or hindsight take the place of the environment's own; what is seen tells success."""

from __future__ import annotations

import csv
import json
import re
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
from grasp_agent.rollouts.given_goal import GoalImage
from grasp_agent.rollouts.policies import AgentPolicy
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.tasks import task_for
from grasp_agent.tasks.task import GOAL_FUNCTION, GOAL_IMAGE, HINDSIGHT, RENDERED, SUCCESS_FUNCTION

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
    with pytest.raises(
        ValueError,
        match=r"observations, float64 \[2\], got uint8 \[16, 16, 3\]; try a world model",
    ):
        make_env(ENV_ID, obs_type="plain", **{GOAL_IMAGE: file}).reset(seed=0)
    with pytest.raises(ValueError, match=r"goals: expected at most one of .*, got hindsight and goal_image"):
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
    assert "in the form of the observations, int64 [], got uint8" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        main([*words, "--goal-image", "nowhere.png", "--out", str(tmp_path / "none")])
    assert "goal image nowhere.png: expected a picture" in capsys.readouterr().err and not (tmp_path / "none").exists()


# ---- a function of the user's

OWN = """
import numpy as np
from dot_world import draw, register

register()  # in worker processes

def place(env, seed):
    return np.array([0.5, -0.5]) if seed % 2 else np.array([-0.5, 0.5])

def shown(env, seed):
    env.reset(seed=seed)
    env.unwrapped.point = place(env, seed)
    return env.step(np.zeros(2, np.float32))[0]

def drawn(env, seed):
    return draw(place(env, seed), 48)

def nothing(env, seed):
    pass

def floats(env, seed):
    return drawn(env, seed) / 255

def beyond(env, seed):
    return np.array([np.nan, 0.0])

def ragged(env, seed):
    return [[1.0], [1.0, 2.0]]

def names(env, seed):
    return {"nobody": 1}

def start(env, seed):
    return env.reset(seed=seed)[0]

def fails(env, seed):
    return {}["key"]

def thoughtless():
    return 0

def right(env, observation, info):
    return env.unwrapped.point[0] > 0.1 and observation["observation"][0] == info["state"][0]

def passed(env, observation, info):
    return info["state"][0] > 0.1

def black(env, seed):
    return np.zeros((8, 8, 3), np.uint8)

def four_numbers(env, observation, info):
    return observation.shape == (4,)

def maybe(env, observation, info):
    return 1.0

def asks(env, observation, info):
    return info["no such entry"]

number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with the functions above; a module of its own for each test."""
    name = f"own_goals_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("obs_type", "function"),
    [("state", "shown"), ("plain", "place"), ("pixels", "shown"), ("pixels", "drawn"), ("plain_pixels", "drawn")],
)
def test_an_agent_goes_where_the_function_says(obs_type: str, function: str, own: str) -> None:
    env = make_env(ENV_ID, obs_type=obs_type, limit=40, **{GOAL_FUNCTION: f"{own}:{function}"})
    agent = MPCAgent(DotModel(pixels="pixels" in obs_type), env.action_space, GaussNewton(), horizon=5)
    steps = list(play(AgentPolicy(agent, task_for(ENV_ID)), [env], [Episode(i, i, i) for i in range(4)]))
    for seed in range(4):
        mine = [step for step in steps if step.episode.index == seed]
        assert mine[-1].info["is_success"]
        assert np.linalg.norm(mine[-1].info["state"] - (0.5, -0.5) * np.array(1 if seed % 2 else -1)) < 0.05


def test_the_function_leaves_no_trace_in_the_episode(own: str) -> None:
    plain = make_env(ENV_ID, obs_type="plain")
    env = make_env(ENV_ID, obs_type="plain", **{GOAL_FUNCTION: f"{own}:shown"})
    for seed in (3, 4):
        assert np.array_equal(env.reset(seed=seed)[0], plain.reset(seed=seed)[0])
        action = np.array([0.3, 0.1], np.float32)
        assert np.array_equal(env.step(action)[0], plain.step(action)[0])
        assert env.unwrapped.steps == 1  # type: ignore[attr-defined]
    assert env.reset()[1]["goal"].shape == (2,), "without a seed, too"


def test_vectors_are_compared_as_pictures_are(own: str) -> None:
    env = make_env(ENV_ID, obs_type="plain", **{GOAL_FUNCTION: f"{own}:place"})
    start, info = env.reset(seed=1)
    assert info["goal"].tolist() == [0.5, -0.5] and info["is_success"] is False
    for left, solved in ((0.0, True), (0.24, True), (0.26, False), (1.0, False)):
        env.unwrapped.point = info["goal"] + left * (start - info["goal"])  # type: ignore[attr-defined]
        assert env.step(np.zeros(2, np.float32))[4]["is_success"] is solved


@pytest.mark.parametrize("goal", [{}, {GOAL_FUNCTION: "{own}:start_elsewhere"}, {HINDSIGHT: 4}])
def test_success_that_the_user_tells_counts(goal: dict[str, Any], own: str, tmp_path: Path) -> None:
    with open(tmp_path / f"{own}.py", "a") as file:
        file.write("\ndef start_elsewhere(env, seed):\n    return env.reset(seed=seed + 1)[0]\n")
    goal = {name: value.format(own=own) if isinstance(value, str) else value for name, value in goal.items()}
    env = make_env(ENV_ID, **goal, **{SUCCESS_FUNCTION: f"{own}:right"})
    env.reset(seed=1)
    for place in (-0.9, 0.05, 0.2, 0.9):
        env.unwrapped.point = np.array([place, 0.0])  # type: ignore[attr-defined]
        assert env.step(np.zeros(2, np.float32))[4]["is_success"] is (place > 0.1)


def test_success_is_told_from_what_the_environment_itself_shows(own: str) -> None:
    told = {GOAL_FUNCTION: f"{own}:black", SUCCESS_FUNCTION: f"{own}:four_numbers"}
    env = make_env("CartPole-v1", repeat_action=2, **{RENDERED: 32}, **told)
    assert env.reset(seed=0)[0].shape == (32, 32, 3)
    assert env.step(0)[4]["is_success"] is True, "the picture is far from the black goal"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "form of the observations, float64 [2], got None; try what env.reset or env.step returns"),
        ("drawn", "form of the observations, float64 [2], got uint8 [48, 48, 3]"),
        ("beyond", "form of the observations, float64 [2], got float64 [2] with NaN or infinity"),
        ("ragged", "form of the observations, float64 [2], got [[1.0], [1.0, 2.0]]"),
        ("names", "form of the observations, float64 [2], got "),
        ("fails", "expected it to return, got KeyError ('key') in line "),
        ("thoughtless", "expected it to return, got TypeError (thoughtless() takes 0 positional arguments but 2 were"),
        ("start", "expected a goal to be reached, got the start of seed 5"),
    ],
)
def test_what_cannot_be_a_goal_of_a_function_is_said(function: str, message: str, own: str) -> None:
    env = make_env(ENV_ID, obs_type="plain", **{GOAL_FUNCTION: f"{own}:{function}"})
    with pytest.raises(ValueError, match=re.escape(f"goal function {own}:{function}: ") + ".*" + re.escape(message)):
        env.reset(seed=5)


@pytest.mark.parametrize(("function", "got"), [("floats", "float64 [48, 48, 3]"), ("place", "float64 [2]")])
def test_pictures_are_asked_for_as_bytes(function: str, got: str, own: str) -> None:
    env = make_env(ENV_ID, obs_type="pixels", **{GOAL_FUNCTION: f"{own}:{function}"})
    with pytest.raises(ValueError, match=re.escape(f"uint8 [16, 16, 3], got {got}")):
        env.reset(seed=5)


def test_the_command_takes_functions(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--env", f"{own}:{ENV_ID}", "--policy", "random", "--policy", "zero", "--episodes", "6"]
    words += ["--goal-function", f"{own}:drawn"]
    passed = ["--success-function", f"{own}:passed"]
    played = []
    for number, more in enumerate(([], ["--workers", "2"], ["--batch", "2"])):
        main([*words, *passed, *more, "--out", str(tmp_path / str(number))])
        played.append([(row["entrant"], row["seed"], row["success"]) for row in rows(tmp_path / str(number))])
    assert len(played[0]) == 12 and played[0] == played[1] == played[2]
    assert {success for _, _, success in played[0]} == {"0", "1"}
    settings = json.loads((tmp_path / "0" / "results.json").read_text())["settings"]["env_kwargs"]
    assert settings == {"goal_function": f"{own}:drawn", "success_function": f"{own}:passed"}
    main([*words, *passed, "--episodes", "7", "--out", str(tmp_path / "0")])
    assert [row for row in rows(tmp_path / "0") if row["seed"] != "10006"] == rows(tmp_path / "0")[:12]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "0")])
    assert "env_kwargs" in capsys.readouterr().err, "success told otherwise is another evaluation"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--goal-function", "no_such_file:goal"], "goal function: expected a module that is installed or lies in the"),
        (["--goal-function", "{own}"], "goal function: expected MODULE:FUNCTION, as in my_file:my_function, got '"),
        (["--goal-function", "{own}:number"], "goal function: expected a function or class, got "),
        (["--goal-function", "{own}:absent"], "goal function: expected a function or class of "),
        (["--goal-function", "{own}:nothing"], "goal function {own}:nothing: expected a goal in the form of the obs"),
        (["--goal-function", "{own}:fails"], "goal function {own}:fails: expected it to return, got KeyError ('key')"),
        (["--goal-function", "{own}:drawn", "--hindsight", "3"], "goals: expected at most one of hindsight, goal_im"),
        (["--goal-function", "{own}:drawn", "--goal-image", "a.png"], "got goal_image and goal_function"),
        (["--success-function", "{own}:number"], "success function: expected a function or class, got "),
        (["--success-function", "{own}:maybe"], "success function {own}:maybe: expected it to return True or False, g"),
        (["--success-function", "{own}:asks"], "success function {own}:asks: expected it to return, got KeyError"),
        (
            ["--success-function", "{own}:right", "--env-arg", "success_key=won"],
            "success: expected at most one of succ",
        ),
        (["--env-arg", "success_key=won"], "success_key: expected 'won' in the info of a step, got 'is_success'"),
        (["--env-arg", "goal_function=3"], "goal function: expected MODULE:FUNCTION, as in my_file:my_function, got 3"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "video"])
def test_bad_functions_are_one_sentence_and_leave_nothing(
    command: str, words: list[str], message: str, own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(own=own) for word in words]
    with pytest.raises(SystemExit):
        main([command, "--env", ENV_ID, "--policy", "random", *words, "--out", str(tmp_path / "deep" / "out.gif")])
    said = capsys.readouterr().err
    assert message.format(own=own) in said and said.count("\n") == 1, said
    assert not (tmp_path / "deep").exists()


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results.csv") as file:
        return list(csv.DictReader(file))
