"""The two rooms: collisions with known answers, the task, pictures, checkers, the data policy."""

import copy
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
from env_checks import check_that_hindsight_replay_relabels, check_that_the_seed_decides_everything, equal
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from stable_baselines3.common.env_checker import check_env as check_env_of_stable_baselines3

import grasp_envs  # noqa: F401
from grasp_envs.wall import Rooms, WallEnv
from grasp_envs.wall_policy import WallPolicy

OBS_TYPES = ("state", "pixels")
DOORS = (8.0, 20.0, 37.3, 56.0)
HERE, THERE = [12.0, 40.0], [50.0, 21.0]
RED, GREY, WHITE = (255, 0, 0), (128, 128, 128), (255, 255, 255)


def make(**arguments):
    return gym.make("grasp_envs/Wall-v0", disable_env_checker=True, **arguments).unwrapped


def blocked(x, y, door):
    """The world's rule, written down again: behind a border, or within the wall and not in its gap."""
    outside = (x < 4.0) | (x > 60.0) | (y < 4.0) | (y > 60.0)
    return outside | ((x > 29.0) & (x < 35.0) & (np.abs(y - door) > 4.0))


def random_places(rng, count, door):
    places = rng.uniform(4.0, 60.0, (3 * count, 2))
    return places[~blocked(*places.T, door)][:count]


# ---------------------------------------------------------------------- collisions


@pytest.mark.parametrize(
    ("start", "motion", "end"),
    [
        ((20.0, 40.0), (3.0, -1.0), (23.0, 39.0)),  # free
        ((28.0, 40.0), (2.0, 0.0), (29.0, 40.0)),  # head-on into the wall, from the left
        ((36.5, 40.0), (-2.0, 0.0), (35.0, 40.0)),  # and from the right
        ((29.0, 40.0), (2.0, 0.0), (29.0, 40.0)),  # stuck
        ((29.0, 40.0), (-2.0, 0.0), (27.0, 40.0)),  # free to leave
        ((28.0, 40.0), (2.0, 1.5), (29.0, 41.5)),  # slides along the wall
        ((28.0, 40.0), (500.0, -3.0), (29.0, 37.0)),  # does not jump it
        ((20.0, 20.0), (30.0, 0.0), (50.0, 20.0)),  # through the door
        ((50.0, 22.0), (-40.0, -4.0), (10.0, 18.0)),  # and back, aslant
        ((28.0, 22.0), (10.0, 10.0), (38.0, 24.0)),  # in the door slides along its edge, and does not turn behind it
        ((31.0, 20.0), (0.0, 9.0), (31.0, 24.0)),  # the door's far edge
        ((31.0, 20.0), (0.0, -9.0), (31.0, 16.0)),  # the door's near edge
        ((28.0, 14.9), (2.0, 2.0), (29.0, 16.9)),  # beside the door's corner: meets the wall's face
        ((28.0, 15.0), (2.0, 2.0), (30.0, 17.0)),  # exactly at it: the gap is closed, so it passes
        ((28.0, 17.5), (2.0, -2.0), (30.0, 16.0)),  # past it: meets the edge of the door
        ((34.0, 23.0), (2.0, 2.0), (36.0, 25.0)),  # grazes the far corner
        ((28.0, 30.0), (1.5, -8.0), (29.0, 22.0)),  # what was lost stays lost, also where the wall ends
        ((29.0, 20.0), (1.5, 0.0), (30.5, 20.0)),  # until the next motion
        ((29.0, 20.0), (0.0, 30.0), (29.0, 50.0)),  # past the doorway along the wall
        ((35.0, 30.0), (0.0, -30.0), (35.0, 4.0)),
        ((5.0, 40.0), (-3.0, 1.0), (4.0, 41.0)),  # borders
        ((59.0, 40.0), (3.0, 1.0), (60.0, 41.0)),
        ((40.0, 5.0), (1.0, -3.0), (41.0, 4.0)),
        ((40.0, 59.0), (1.0, 3.0), (41.0, 60.0)),
        ((58.0, 59.5), (9.0, 9.0), (60.0, 60.0)),  # a corner of the world
        ((60.0, 60.0), (-1.0, 1.0), (59.0, 60.0)),
        ((30.0, 22.0), (0.0, 0.0), (30.0, 22.0)),
    ],
)
def test_moves_with_known_answers(start, motion, end):
    rooms = Rooms(20.0)
    assert rooms.move(*start, *motion) == pytest.approx(end, abs=1e-12)
    # The world is the same upside down.
    x, y = Rooms(44.0).move(start[0], 64.0 - start[1], motion[0], -motion[1])
    assert (x, 64.0 - y) == pytest.approx(end, abs=1e-12)


@pytest.mark.parametrize(("door", "y"), [(8.0, 4.0), (56.0, 60.0)])
def test_a_door_at_the_border_lets_through_along_the_border(door, y):
    assert Rooms(door).move(20.0, y, 20.0, 0.0) == (40.0, y)
    assert Rooms(door).move(40.0, y, -20.0, y - door) == (20.0, y)


@pytest.mark.parametrize("door", DOORS)
def test_moves_equal_those_of_many_tiny_steps(door):
    """The motion in 1,500 pieces, each refused if it would end behind a surface, which then costs its component."""
    rng = np.random.default_rng(0)
    count, pieces = 800, 1500
    start = random_places(rng, count, door)
    motion = rng.uniform(-1.0, 1.0, (count, 2)) * rng.choice([3.0, 20.0, 60.0], (count, 1))
    # A quarter of them aim at the door.
    aimed = rng.uniform([29.0, door - 4.0], [35.0, door + 4.0], (count // 4, 2)) - start[: count // 4]
    motion[: count // 4] = aimed * rng.uniform(0.5, 2.0, (count // 4, 1))
    x, y = start.T
    dx, dy = motion.T / pieces
    corner_gap = np.full(count, np.inf)
    for _ in range(pieces):
        refused = blocked(x + dx, y + dy, door)
        stop_x, stop_y = refused & blocked(x + dx, y, door), refused & blocked(x, y + dy, door)
        dx, dy = np.where(stop_x, 0.0, dx), np.where(stop_y, 0.0, dy)
        x, y = x + dx, y + dy
        corner_gap = np.minimum(corner_gap, np.hypot(np.abs(x - 32.0) - 3.0, np.abs(y - door) - 4.0))
    ends = np.array([Rooms(door).move(*s, *m) for s, m in zip(start, motion, strict=True)])
    errors = np.hypot(ends[:, 0] - x, ends[:, 1] - y)
    # Which side of a corner a path passes is too fine a question for pieces of up to 0.06 px.
    clear = corner_gap > 0.1
    crossed = (start[:, 0] < 32.0) != (ends[:, 0] < 32.0)
    assert clear.mean() > 0.8 and crossed[clear].sum() > 20
    assert errors[clear].max() < 0.1
    # Who is at a surface is exactly at it.
    for values, surfaces in ((ends[:, 0], (4.0, 29.0, 35.0, 60.0)), (ends[:, 1], (4.0, door - 4.0, door + 4.0, 60.0))):
        gaps = np.abs(values[:, None] - surfaces).min(1)
        assert (gaps[gaps < 1e-9] == 0.0).all() and (gaps == 0.0).sum() > 20


@pytest.mark.parametrize("door", DOORS)
def test_no_walk_enters_the_wall_or_changes_rooms_but_through_the_door(door):
    env = make(door=door, max_steps=10**9)
    rng = np.random.default_rng(1)
    shares = np.linspace(0.0, 1.0, 50)
    touched = crossed = 0
    for place in random_places(rng, 60, door):
        env.reset(seed=0, options={"state": place})
        heading = rng.uniform(-1.0, 1.0, 2)
        for _ in range(100):
            before = env.get_state()
            heading = np.clip(heading + rng.normal(0.0, 0.4, 2), -1.0, 1.0)
            env.step(heading)
            x, y = after = env.get_state()
            assert not blocked(x, y, door)
            # A step is shorter than the wall is thick, so a dot that changes rooms is seen in the door.
            assert not (min(before[0], x) <= 29.0 and max(before[0], x) >= 35.0)
            touched += x in (29.0, 35.0)
            crossed += (before[0] < 32.0) != (x < 32.0)
            if 29.0 < x < 35.0 or 29.0 < before[0] < 35.0:
                # Where a step bends, it bends along the gap's own edge: the straight line lies in the gap as well.
                ys = before[1] + shares * (after[1] - before[1])
                xs = before[0] + shares * (after[0] - before[0])
                assert (np.abs(ys[(xs > 29.0) & (xs < 35.0)] - door) <= 4.0 + 1e-9).all()
    assert touched > 200 and crossed > 5


def test_free_is_the_worlds_rule_surfaces_included():
    rooms = Rooms(20.0)
    for x, y in np.random.default_rng(0).uniform(0.0, 65.0, (2000, 2)):
        assert rooms.free(x, y) == (not blocked(x, y, 20.0))
    for place in ((29.0, 40.0), (35.0, 40.0), (32.0, 16.0), (32.0, 24.0), (4.0, 4.0), (60.0, 60.0)):
        assert rooms.free(*place)
    for place in ((29.001, 40.0), (34.999, 40.0), (32.0, 15.999), (32.0, 24.001), (3.999, 4.0), (60.0, 60.001)):
        assert not rooms.free(*place)


# ---------------------------------------------------------------------- reset and step


def test_an_action_moves_the_dot_by_two_px_and_is_clipped():
    env = make()
    env.reset(options={"state": HERE})
    for action, moved in (([1.0, -0.5], (2.0, -1.0)), ([-0.25, 0.0], (-0.5, 0.0)), ([7.0, -9.0], (2.0, -2.0))):
        before = env.get_state()
        env.step(np.array(action, np.float32))
        np.testing.assert_allclose(env.get_state() - before, moved, rtol=0, atol=1e-12)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_seed_decides_everything(obs_type):
    check_that_the_seed_decides_everything(lambda: make(obs_type=obs_type))


def test_starts_and_goals_are_in_opposite_rooms_and_fill_them():
    env = make()
    env.reset(seed=0)
    infos = [env.reset()[1] for _ in range(1000)]
    starts, goals = (np.array([info[key] for info in infos]) for key in ("state", "goal_state"))
    left = starts[:, 0] < 32.0
    assert ((goals[:, 0] > 32.0) == left).all()
    assert 0.45 < left.mean() < 0.55
    for places in (starts, goals):
        for x, low, high in ((places[places[:, 0] < 32.0], 6.0, 27.0), (places[places[:, 0] > 32.0], 37.0, 58.0)):
            # Uniform in x and y: within the bounds, near both, and the quarters alike.
            for values, least, most in ((x[:, 0], low, high), (x[:, 1], 6.0, 58.0)):
                assert least <= values.min() < least + 0.5 and most - 0.5 < values.max() <= most
                quarters = np.histogram(values, 4, (least, most))[0] / len(values)
                assert (np.abs(quarters - 0.25) < 0.08).all()
    assert not any(info["is_success"] for info in infos)


def test_options_set_exactly_what_is_asked():
    env = make()
    observation, info = env.reset(options={"state": HERE, "goal": THERE})
    for array in (info["state"], env.get_state(), observation["observation"], observation["achieved_goal"]):
        np.testing.assert_array_equal(array, HERE)
    for array in (info["goal_state"], observation["desired_goal"]):
        np.testing.assert_array_equal(array, THERE)
    assert info["distance"] == pytest.approx(math.hypot(38.0, 19.0))


@pytest.mark.parametrize("x", [4.0, 29.0, 31.9, 32.0, 33.0, 60.0])
@pytest.mark.parametrize("given", ["state", "goal"])
def test_what_is_not_given_is_drawn_on_the_other_side(given, x):
    env = make()
    for seed in range(20):
        _, info = env.reset(seed=seed, options={given: [x, 20.0]})
        asked, drawn = (info["state"], info["goal_state"])[:: 1 if given == "state" else -1]
        np.testing.assert_array_equal(asked, [x, 20.0])
        assert (drawn[0] < 32.0) == (x >= 32.0)
        assert not info["is_success"]


def test_set_state_moves_the_dot_and_leaves_goal_and_time():
    env = make(max_steps=3)
    _, info = env.reset(seed=0)
    goal = info["goal_state"]
    env.step(np.zeros(2, np.float32))
    env.set_state([33.0, 22.0])
    *_, truncated, info = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(info["state"], [33.0, 22.0])
    np.testing.assert_array_equal(info["goal_state"], goal)
    assert not truncated
    assert env.step(np.zeros(2, np.float32))[3]


@pytest.mark.parametrize("arguments", [{}, {"max_steps": 7}, {"max_steps": 1}])
def test_it_never_terminates_and_truncates_at_max_steps(arguments):
    env = make(**arguments)
    limit = arguments.get("max_steps", 100)
    for _ in range(2):
        env.reset(options={"state": HERE, "goal": HERE})
        ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(limit)]
        assert ends == [(False, False)] * (limit - 1) + [(False, True)]


def test_the_goal_can_be_reached_through_the_door():
    env = make()
    env.reset(options={"state": [24.0, 16.0], "goal": [40.0, 16.0]})
    steps = [env.step(np.array([1.0, 0.0], np.float32)) for _ in range(8)]
    assert [step[1] for step in steps] == [-1.0] * 5 + [0.0] * 3
    assert [step[4]["is_success"] for step in steps] == [False] * 5 + [True] * 3


# ---------------------------------------------------------------------- success and reward


@pytest.mark.parametrize(
    ("state", "goal", "moderate", "strict"),
    [
        ((50.0, 40.0), (50.0, 40.0), True, True),
        ((50.0, 42.2), (50.0, 40.0), True, True),
        ((50.0, 42.4), (50.0, 40.0), True, False),
        ((53.0, 43.3), (50.0, 40.0), True, False),  # 4.46 px
        ((53.0, 43.4), (50.0, 40.0), False, False),  # 4.53 px
        ((29.2, 20.0), (27.2, 20.0), True, False),  # in the door, on neither side
        ((29.0, 20.0), (27.0, 20.0), True, True),
        ((34.8, 20.0), (36.8, 20.0), True, False),
        ((35.0, 20.0), (37.0, 20.0), True, True),
        ((31.0, 20.0), (33.0, 20.0), True, True),  # a goal in the door
        ((35.0, 20.0), (34.0, 20.0), True, False),
    ],
)
def test_success_kinds(state, goal, moderate, strict):
    for success, expected in (("moderate", moderate), ("strict", strict)):
        env = make(success=success)
        _, info = env.reset(options={"state": state, "goal": goal})
        assert info["is_success"] is expected
        assert info["distance"] == pytest.approx(math.dist(state, goal))
        _, reward, _, _, info = env.step(np.zeros(2, np.float32))
        assert (reward, info["is_success"]) == (0.0 if expected else -1.0, expected)
        assert env.compute_reward(np.array(state), np.array(goal), {}) == reward


def test_dense_rewards_are_the_distance_in_worlds():
    env = make(reward_type="dense")
    env.reset(options={"state": [10.0, 30.0], "goal": [22.0, 35.0]})
    assert env.step(np.zeros(2, np.float32))[1] == pytest.approx(-13.0 / 65.0)


@pytest.mark.parametrize("success", ["moderate", "strict"])
@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
def test_reward_is_compute_reward_for_one_and_for_many(reward_type, success):
    env = make(reward_type=reward_type, success=success)
    achieved, desired, rewards = [], [], []
    for seed in range(30):
        _, info = env.reset(seed=seed)
        if seed % 2:
            env.set_state(info["goal_state"])
        observation, reward, *_, info = env.step(env.action_space.sample() * 0.5)
        assert isinstance(reward, float)
        assert reward == env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        achieved.append(observation["achieved_goal"])
        desired.append(observation["desired_goal"])
        rewards.append(reward)
    together = env.compute_reward(np.array(achieved), np.array(desired), [{}] * 30)
    assert together.shape == (30,) and together.dtype == np.float64
    np.testing.assert_array_equal(together, rewards)
    if reward_type == "sparse":
        assert set(rewards) == {0.0, -1.0}


def test_only_the_state_observation_is_a_goal_environment():
    for obs_type in OBS_TYPES:
        assert hasattr(make(obs_type=obs_type), "compute_reward") == (obs_type == "state")


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize("resolution", [48, 64, 224])
@pytest.mark.parametrize("place", [(15.3, 30.7), (44.01, 51.49), (32.2, 20.0)])
def test_the_dots_centre_of_mass_is_its_place(place, resolution):
    """Also in the door, where the dot reaches over the wall: what counts is how far each pixel is on its way to red."""
    env = make(obs_type="pixels", resolution=resolution)
    picture, ground = (
        env.reset(options={"state": state})[0]["pixels"][..., 1].astype(float) for state in (place, (10.0, 10.0))
    )
    centres = (np.arange(resolution) + 0.5) * 65.0 / resolution
    near = np.hypot(centres - place[0], (centres - place[1])[:, None]) < 7.0
    ink = np.where(near, 1.0 - picture / np.where(near, ground, 1.0), 0.0)
    assert (ink.sum(0) @ centres) / ink.sum() == pytest.approx(place[0], abs=0.02)
    assert (ink.sum(1) @ centres) / ink.sum() == pytest.approx(place[1], abs=0.02)
    # A Gaussian's integral; and its variance tells sigma.
    assert ink.sum() * (65.0 / resolution) ** 2 == pytest.approx(math.tau * 1.7**2, rel=0.01)
    assert (ink.sum(0) @ (centres - place[0]) ** 2) / ink.sum() == pytest.approx(1.7**2, rel=0.02)


def test_colours_of_walls_borders_and_dot():
    picture = make(obs_type="pixels", resolution=65, door=21.0).reset(options={"state": [10.5, 40.5]})[0]["pixels"]

    def at(x, y):
        return tuple(picture[y, x].tolist())

    # One pixel is one px of the world: the last grey and the first white at every surface.
    assert at(10, 40) == RED
    assert [at(x, 50) for x in (0, 3, 4, 28, 29, 34, 35, 59, 60, 64)] == [
        *[GREY] * 2, *[WHITE] * 2, *[GREY] * 2, *[WHITE] * 2, *[GREY] * 2,
    ]  # fmt: skip
    assert [at(20, y) for y in (0, 3, 4, 59, 60, 64)] == [*[GREY] * 2, *[WHITE] * 2, *[GREY] * 2]
    assert [at(32, y) for y in (4, 16, 17, 24, 25, 59)] == [*[GREY] * 2, *[WHITE] * 2, *[GREY] * 2]
    # Half-way to red at sigma sqrt(2 ln 2), in the middle of the free room.
    shares = [(255 - picture[40, 10 + d, 1]) / 255 for d in range(4)]
    assert shares == pytest.approx([math.exp(-(d**2) / (2 * 1.7**2)) for d in range(4)], abs=0.003)


def test_the_dot_is_blended_over_the_walls_too():
    picture = make(obs_type="pixels", resolution=65).reset(options={"state": [29.0, 45.5]})[0]["pixels"]
    for column, ground in ((28, 255), (29, 128)):
        share = math.exp(-(0.5**2) / (2 * 1.7**2))
        expected = [ground + share * (255 - ground), ground * (1 - share), ground * (1 - share)]
        np.testing.assert_allclose(picture[45, column], expected, rtol=0, atol=0.51)


def test_the_goal_picture_is_the_world_with_the_dot_at_its_goal():
    env = make(obs_type="pixels")
    first, _ = env.reset(options={"state": HERE, "goal": THERE})
    second, _ = env.reset(options={"state": THERE, "goal": HERE})
    assert first.keys() == {"pixels", "goal"}
    np.testing.assert_array_equal(first["goal"], second["pixels"])
    np.testing.assert_array_equal(first["pixels"], second["goal"])
    assert (first["pixels"] != first["goal"]).any()


def test_render_adds_the_tolerance_round_the_goal_beneath_the_dot():
    for success, radius in (("moderate", 4.5), ("strict", 2.3)):
        env = make(success=success, render_mode="rgb_array", visualization_size=260)
        env.reset(options={"state": HERE, "goal": [50.0, 40.0]})
        picture = env.render()
        assert picture.shape == (260, 260, 3) and picture.dtype == np.uint8
        env.reset(options={"state": HERE, "goal": [55.0, 10.0]})
        ring = (picture != env.render()).any(-1)
        rows, columns = np.nonzero(ring[100:])  # the other goal's ring is above
        x, y = (columns + 0.5) / 4.0, (rows + 100.5) / 4.0
        distances = np.hypot(x - 50.0, y - 40.0)
        assert len(x) > 50 and (np.abs(distances - radius) < 0.7).all()
        env.reset(options={"state": [50.0, 40.0], "goal": [50.0, 40.0]})
        assert tuple(env.render()[160, 200].tolist()) == pytest.approx(RED, abs=2)


def test_render_without_a_mode_says_so():
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert env.render() is None


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": [1.0, 2.0, 3.0]}, r"state of 2 numbers \(x, y\), got shape \(3,\)"),
        ({"goal": "there"}, "goal to be numbers .* got 'there'"),
        ({"state": [math.nan, 20.0]}, "finite numbers in state"),
        ({"state": [32.0, 40.0]}, r"state to be a free place, .* \[4, 60\] px and not in the wall, got \[32.0, 40.0\]"),
        ({"goal": [32.0, 15.9]}, "goal to be a free place"),
        ({"goal": [3.9, 20.0]}, "goal to be a free place"),
        ({"state": [20.0, 61.0]}, "state to be a free place"),
        ({"start": HERE}, r"\"state\" and \"goal\", got \['start'\]"),
    ],
)
def test_wrong_options_are_refused_and_nothing_changes(options, message):
    env = make()
    _, before = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    *_, after = env.step(np.zeros(2, np.float32))
    assert equal(before, after)


def test_set_state_refuses_what_is_not_free():
    env = make()
    env.reset(seed=0, options={"state": HERE})
    with pytest.raises(ValueError, match=r"state to be a free place, .* got \[30.0, 50.0\], try \[16.5, 32.0\]"):
        env.set_state([30.0, 50.0])
    np.testing.assert_array_equal(env.get_state(), HERE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "keypoints"}, "obs_type to be one of 'state', 'pixels', got 'keypoints'"),
        ({"success": "pose"}, "success to be one of 'moderate', 'strict', got 'pose'"),
        ({"reward_type": "shaped"}, "reward_type to be one of 'sparse', 'dense'"),
        ({"render_mode": "human"}, "render_mode to be one of 'rgb_array', got 'human'"),
        ({"resolution": 0}, "resolution to be an integer of at least 8, got 0, try 64"),
        ({"visualization_size": 9.5}, "visualization_size to be an integer"),
        ({"max_steps": 0}, "max_steps to be an integer of at least 1, got 0, try 100"),
        ({"door": 7.9}, r"door, the y of its centre, to be a number within \[8, 56\] px, got 7.9, try 20"),
        ({"door": 56.1}, "door"),
        ({"door": math.nan}, "door"),
        ({"door": "top"}, "door"),
        ({"door": True}, "door"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WallEnv(**arguments)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(3, np.float32), r"2 numbers, got shape \(3,\)"),
        (np.zeros((1, 2), np.float32), r"got shape \(1, 2\)"),
        (np.array([math.nan, 0.0]), "finite action"),
        (np.array(["a", "b"]), "dtype <U1"),
    ],
)
def test_wrong_actions_are_refused(action, message):
    env = make(max_steps=1)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


# ---------------------------------------------------------------------- checkers, copies


@pytest.mark.parametrize(
    "arguments",
    [
        *({"obs_type": obs_type, "success": success} for obs_type in OBS_TYPES for success in ("moderate", "strict")),
        {"reward_type": "dense"},
        {"door": 56, "max_steps": 5},
        {"obs_type": "pixels", "resolution": 48, "reward_type": "dense"},
    ],
)
def test_both_checkers_pass_without_a_warning(arguments):
    env = make(render_mode="rgb_array", visualization_size=64, **arguments)
    check_env(env, skip_render_check=True)
    env_render_passive_checker(env)
    check_env_of_stable_baselines3(env, skip_render_check=False)
    check_env(make(**arguments), skip_render_check=True)


def test_observations_stay_inside_their_space():
    for obs_type in OBS_TYPES:
        env = make(obs_type=obs_type)
        for corner in ([4.0, 4.0], [60.0, 60.0], [29.0, 60.0], [35.0, 4.0], [32.0, 16.0]):
            env.reset(options={"state": corner, "goal": corner})
            for action in ([1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]):
                assert env.observation_space.contains(env.step(np.array(action, np.float32))[0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_copies_continue_alike(obs_type, duplicate):
    env = gym.make("grasp_envs/Wall-v0", obs_type=obs_type, render_mode="rgb_array", visualization_size=64)
    env.reset(seed=5)
    env.step(np.array([-0.1, 0.1], np.float32))
    env.render()
    twin = duplicate(env)
    for _ in range(3):
        first, second = (e.step(np.array([0.2, 0.1], np.float32)) for e in (env, twin))
        assert equal(first[0], second[0]) and first[1:4] == second[1:4] and equal(first[4], second[4])
    np.testing.assert_array_equal(env.render(), twin.render())
    assert equal(env.reset()[0], twin.reset()[0])


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_arrays_handed_out_are_the_users_own(obs_type):
    env, control = make(obs_type=obs_type), make(obs_type=obs_type)
    for e in (env, control):
        e.reset(seed=0)
    for _ in range(2):
        spoiled, wanted = (e.step(np.array([0.5, 0.5], np.float32)) for e in (env, control))
        assert equal(spoiled[0], wanted[0]) and equal(spoiled[-1], wanted[-1])
        for array in (*spoiled[0].values(), *spoiled[-1].values()):
            if isinstance(array, np.ndarray):
                array[...] = 0


def test_hindsight_replay_runs_and_relabels():
    check_that_hindsight_replay_relabels(gym.make("grasp_envs/Wall-v0", max_steps=10))


# ---------------------------------------------------------------------- the data policy


def play(seed, steps, start=None, **arguments):
    """Actions, and the dot's places from the start on."""
    env = make(**arguments)
    env.reset(seed=seed, options=None if start is None else {"state": start})
    policy = env.make_expert(seed)
    actions, places = [], [env.get_state()]
    for _ in range(steps):
        actions.append(policy.act())
        assert env.action_space.contains(actions[-1])
        env.step(actions[-1])
        places.append(env.get_state())
    return np.array(actions), np.array(places)


@pytest.mark.parametrize("door", [20.0, 56.0])
def test_the_data_show_both_rooms_walls_and_rests(door):
    actions, places = play(0, 6000, door=door)
    x, y = places[1:].T
    moved = np.hypot(*(places[1:] - places[:-1]).T)
    rests = (actions == 0.0).all(1)
    at_wall = np.isin(x, (29.0, 35.0)) & (np.abs(y - door) > 4.0)
    assert 0.3 < (x < 32.0).mean() < 0.7
    assert 0.05 < rests.mean() < 0.25
    assert 0.05 < at_wall.mean() < 0.4
    # In all: stuck at the wall, sliding along it, and free motion.
    assert (at_wall & ~rests & (moved < 0.1)).sum() > 20
    assert (at_wall & ~rests & (moved > 0.5)).sum() > 200
    assert (~at_wall & (moved > 1.0)).mean() > 0.2
    # Through the door often, both ways, and onto every border.
    rooms = x[(x <= 29.0) | (x >= 35.0)] < 32.0
    assert all((np.diff(rooms.astype(int)) == way).sum() > 4 for way in (-1, 1))
    assert all(touched.any() for touched in (x == 4.0, x == 60.0, y == 4.0, y == 60.0))
    # Every part of both rooms, all directions, and the corners of the box of actions.
    cells = np.histogram2d(x, y, (4, 4), ((4.0, 60.0), (4.0, 60.0)))[0]
    assert cells.min() > 20
    assert (np.abs(actions.mean(0)) < 0.1).all() and (actions.std(0) > 0.3).all()
    assert {(a, b) for a, b in np.sign(actions[(np.abs(actions) == 1.0).all(1)])} == {
        (1, 1),
        (1, -1),
        (-1, 1),
        (-1, -1),
    }


def test_its_errors_are_smooth():
    """Far from the wall and without rests, consecutive actions are much alike, and yet no two are the same."""
    actions, places = play(1, 2000)
    moving = actions.any(1) & (np.abs(places[:-1, 0] - 32.0) > 6.0)
    changes = np.abs(np.diff(actions, axis=0))[moving[1:] & moving[:-1]]
    assert 0.05 < np.median(changes) < 0.3
    assert changes.any(1).mean() > 0.98


@pytest.mark.parametrize(
    ("speed", "place", "shortest", "longest"),
    [
        (0.0, (10.5, 10.0), 1, 1),  # it has arrived
        (0.0, (50.0, 10.0), 4, 9),  # no nearer: the first step counts as progress
        (0.01, (50.0, 10.0), 4, 9),  # hardly nearer
        (1.0, (1e6, 10.0), 10, 80),  # on its way, but for long
    ],
)
def test_when_a_walk_ends(speed, place, shortest, longest):
    """A dot that moves evenly to the right whenever the policy does not rest, whatever it says."""
    x, acts, draws = 10.0, 0, []

    def draw(rng):
        draws.append(acts)
        return place

    policy = WallPolicy(lambda: (x, 10.0), draw, stride=2.0, seed=0)
    while len(draws) < 60:
        walking = bool(policy.act().any())
        acts += walking
        x += speed * walking
    lengths = np.diff(draws[1:])
    assert shortest <= lengths.min() and lengths.max() <= longest
    assert len(set(lengths)) > 1 or shortest == longest


def test_the_policys_seed_decides_what_it_does():
    first, _ = play(3, 80)
    np.testing.assert_array_equal(first, play(3, 80)[0])
    env = make()
    env.reset(seed=3)
    policy = env.make_expert(4)
    other = []
    for _ in range(80):
        other.append(policy.act())
        env.step(other[-1])
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("place", [[4.0, 4.0], [60.0, 60.0], [29.0, 60.0], [35.0, 30.0], [32.0, 16.0], [29.0, 24.0]])
def test_the_policy_leaves_every_place(place):
    _, places = play(0, 300, start=place)
    assert np.hypot(*(places - place).T).max() > 10.0


def test_the_policy_goes_on_when_the_world_jumps():
    env = make()
    env.reset(seed=0)
    policy = env.make_expert(0)
    rng = np.random.default_rng(0)
    for place in random_places(rng, 300, 20.0):
        env.set_state(place)
        for _ in range(int(rng.integers(1, 6))):
            env.step(policy.act())
