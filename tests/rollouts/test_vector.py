"""The one loop: slots are filled, used again and given up; an episode is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from dot_world import LIMIT, SPEED, TASK, DotEnv, DotModel
from gymnasium import spaces
from numpy.typing import NDArray
from tiny_model import TINY

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.models import LatentWorldModel
from grasp_agent.planning import GRASP, GradientDescent, MultiStart
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.policies import AgentPolicy, expert_policy, predicting, random_policy, zero_policy
from grasp_agent.rollouts.vector import Episode, TimeStep, VectorPolicy, play
from grasp_agent.tasks import Task, task_for

SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)
DESCENT = MultiStart(GradientDescent(), restarts=2, refresh=1)


def episodes(*seeds: int) -> list[Episode]:
    return [Episode(index, seed, policy_seed=seed) for index, seed in enumerate(seeds)]


# ---- slots -------------------------------------------------------------------------------------------------


class Clock(gym.Env[Any, Any]):
    """An episode of as many steps as its seed says; observations are (seed, steps)."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.length, self.steps = seed, 0
        return (self.length, 0), {"steps": 0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == self.length
        return (self.length, self.steps), float(action), over and self.length % 2 == 0, over, {"steps": self.steps}


class Watching:
    """Plays 10 * slot + the steps so far, and notes what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.acted: list[tuple[list[int], list[Any]]] = []

    def begin(self, slot: int, first: TimeStep) -> None:
        assert first.number == 0
        self.begun.append((slot, first.episode.index))

    def act(self, slots: Sequence[int], observations: Sequence[Any]) -> list[Any]:
        self.acted.append((list(slots), list(observations)))
        return [10 * slot + steps for slot, (_, steps) in zip(slots, observations, strict=True)]


def test_a_free_slot_takes_the_next_episode_and_is_given_up_when_there_is_none() -> None:
    policy, envs = Watching(), [Clock(), Clock()]
    steps = list(play(policy, envs, episodes(2, 5, 1, 3)))
    assert policy.begun == [(0, 0), (1, 1), (0, 2), (0, 3)]
    assert [slots for slots, _ in policy.acted] == [[0, 1]] * 5 + [[0]]
    assert [seen for _, seen in policy.acted] == [
        [(2, 0), (5, 0)],
        [(2, 1), (5, 1)],
        [(1, 0), (5, 2)],
        [(3, 0), (5, 3)],
        [(3, 1), (5, 4)],
        [(3, 2)],
    ]
    for index, length in enumerate((2, 5, 1, 3)):
        mine = [step for step in steps if step.episode.index == index]
        assert [step.number for step in mine] == list(range(length + 1))
        assert [step.last for step in mine] == [False] * length + [True]
        assert mine[0].action is None and mine[0].reward == 0.0 and mine[0].seconds == 0.0
        slot = 1 if index == 1 else 0
        assert [step.action for step in mine[1:]] == [10 * slot + number for number in range(length)]
        assert all(step.reward == step.action for step in mine[1:])
        assert [step.info["steps"] for step in mine] == list(range(length + 1))
        assert all(step.env is envs[slot] for step in mine)


def test_the_lower_slot_may_be_given_up_first() -> None:
    policy = Watching()
    list(play(policy, [Clock(), Clock(), Clock()], episodes(1, 4, 2)))
    assert [slots for slots, _ in policy.acted] == [[0, 1, 2], [1, 2], [1], [1]]


def test_more_slots_than_episodes_and_no_episode_at_all() -> None:
    policy = Watching()
    assert len(list(play(policy, [Clock()] * 3, episodes(2)))) == 3
    assert list(play(policy, [Clock()], [])) == []


def test_episodes_can_be_cut_short() -> None:
    limited = list(play(Watching(), [Clock(), Clock()], episodes(2, 5, 4), step_limit=3))
    assert [(step.episode.index, step.number) for step in limited if step.last] == [(0, 2), (1, 3), (2, 3)]
    stopped = list(play(Watching(), [Clock()], episodes(5, 2), until=lambda info: info["steps"] == 3))
    assert [(step.episode.index, step.number) for step in stopped if step.last] == [(0, 3), (1, 2)]


def test_a_decision_is_timed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 20.0, 20.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    steps = list(play(Watching(), [Clock(), Clock()], episodes(2, 2)))
    assert [step.seconds for step in steps if step.number == 1] == [0.5, 0.5]
    assert [step.seconds for step in steps if step.number == 2] == [0.25, 0.25]


# ---- agents ------------------------------------------------------------------------------------------------


class Uneven(DotEnv):
    """The dot, in episodes of different lengths."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        seen = super().reset(**kwargs)
        self.limit = 3 + 4 * (kwargs["seed"] % 3)
        return seen


def dot_agent(**options: Any) -> MPCAgent:
    model = DotModel(history=3, action_block=2)
    settings: dict[str, Any] = {"horizon": 2, "budget": Budget(iterations=4), "replan_every": 2, **options}
    return MPCAgent(model, SQUARE, DESCENT, **settings)


def played(policy: VectorPolicy, envs: Sequence[gym.Env[Any, Any]], what: list[Episode]) -> dict[int, NDArray[Any]]:
    """The actions of each episode, [steps, action_dim]."""
    actions: dict[int, list[Any]] = {episode.index: [] for episode in what}
    for step in play(policy, envs, what):
        if step.action is not None:
            actions[step.episode.index].append(step.action)
    return {index: np.stack(chosen) for index, chosen in actions.items()}


@pytest.mark.parametrize("first_iterations", [4, 12])
def test_an_episode_of_a_batch_is_what_it_is_alone(first_iterations: int) -> None:
    what = episodes(3, 4, 5, 6, 7, 8, 9)
    agent = dot_agent(first_budget=Budget(iterations=first_iterations))
    together = played(AgentPolicy(agent, TASK), [Uneven("pixels") for _ in range(3)], what)
    assert {index: len(actions) for index, actions in together.items()} == dict(enumerate([3, 7, 11, 3, 7, 11, 3]))
    for episode in what:
        alone = played(AgentPolicy(agent, TASK), [Uneven("pixels")], [episode])
        np.testing.assert_allclose(together[episode.index], alone[episode.index], atol=1e-5)


def test_networks_round_differently_in_batches_and_that_is_all() -> None:
    env_id, kwargs = "grasp_envs/PushTReach-v0", {"obs_type": "pixels", "resolution": 16, "goal_horizon": 5}
    agent = GRASPAgent(LatentWorldModel(TINY), SQUARE, GRASP(restarts=2), horizon=3, budget=Budget(iterations=2))
    envs = [make_env(env_id, **kwargs) for _ in range(4)]
    what = episodes(20, 21, 22, 23)
    task = task_for(env_id)
    firsts = {}
    for slots in (1, 4):
        policy = AgentPolicy(agent, task)
        firsts[slots] = {
            step.episode.index: step.action for step in play(policy, envs[:slots], what, step_limit=1) if step.last
        }
    for index in range(4):
        np.testing.assert_allclose(firsts[4][index], firsts[1][index], atol=1e-4)


def test_each_row_pursues_its_own_goal() -> None:
    class Announced(DotEnv):
        """Pictures alone; the goal's is in the reset's info."""

        def __init__(self) -> None:
            super().__init__("plain_pixels")

    agent = dot_agent(replan_every=1, horizon=3)
    agent.reset(goal=np.zeros((16, 16, 3), np.uint8))  # a goal from before, which is no episode's
    for make in (Announced, lambda: DotEnv("pixels")):
        steps = list(play(AgentPolicy(agent, TASK), [make() for _ in range(3)], episodes(1, 2, 3, 4)))
        solved = {step.episode.index for step in steps if TASK.solved(step.info)}
        assert solved == {0, 1, 2, 3}


def test_pictures_and_goals_are_found_where_the_task_says() -> None:
    class Renamed(DotEnv):
        def _observe(self) -> Any:
            seen = super()._observe()
            return {"camera": seen["pixels"], "target": seen["goal"], "pixels": np.zeros_like(seen["pixels"])}

    task = Task("renamed", picture_key="camera", goal_key="target")
    renamed = played(AgentPolicy(dot_agent(), task), [Renamed("pixels")], episodes(3))
    plain = played(AgentPolicy(dot_agent(), TASK), [DotEnv("pixels")], episodes(3))
    np.testing.assert_array_equal(renamed[0], plain[0])


def test_an_agent_remembers_what_was_executed_not_what_it_chose() -> None:
    def noise(episode: Episode) -> Iterator[NDArray[Any]]:
        generator = np.random.default_rng(episode.policy_seed)
        while True:
            yield generator.normal(scale=0.5, size=2)

    agent = MPCAgent(DotModel(history=2), SQUARE, DESCENT, horizon=3, budget=Budget(iterations=2))
    policy = AgentPolicy(agent, TASK, noise)
    errors = []
    for step in play(policy, [DotEnv("pixels") for _ in range(2)], episodes(3, 4, 5)):
        if step.action is not None:
            assert SQUARE.contains(step.action)
            assert agent.diagnostics is not None
            errors.append(agent.diagnostics.prediction_error)
    error = np.concatenate(errors)
    # The model is exact but for the pictures' rounding and the walls; a noise of 0.5 that it had not been told of would
    # show.
    assert np.isfinite(error).sum() > LIMIT
    assert np.nanmedian(error) < 0.01 * (SPEED * 0.5) ** 2
    quiet = played(AgentPolicy(agent, TASK), [DotEnv("pixels")], episodes(3))
    noisy = played(AgentPolicy(agent, TASK, noise), [DotEnv("pixels")], episodes(3))
    drawn = noise(episodes(3)[0])
    np.testing.assert_allclose(noisy[0][0], np.clip(quiet[0][0] + next(drawn), -1, 1), atol=1e-6)


# ---- everybody else ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [random_policy, expert_policy, zero_policy], ids=lambda make: make.__name__)
def test_references_play_the_same_in_any_slot(policy: Any) -> None:
    what = episodes(3, 4, 5, 6)
    together = played(policy(), [Uneven() for _ in range(3)], what)
    for episode in what:
        alone = played(policy(), [Uneven()], [episode])[episode.index]
        np.testing.assert_array_equal(together[episode.index], alone)


def test_random_actions_follow_the_policys_seed() -> None:
    one, same, other = (Episode(index, seed=3, policy_seed=seed) for index, seed in enumerate((7, 7, 8)))
    actions = played(random_policy(), [DotEnv()], [one, same, other])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert np.abs(actions[0] - actions[2]).max() > 0.1


def test_a_recurrent_policy_has_a_memory_for_each_slot() -> None:
    class Counting:
        def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
            assert deterministic and (state is None) == bool(episode_start[0])
            count = 0 if episode_start[0] else state + 1
            return np.full(2, count / 100, np.float32), count

    actions = played(predicting(Counting()), [Uneven() for _ in range(2)], episodes(3, 4, 5))
    for index, length in enumerate((3, 7, 11)):
        np.testing.assert_allclose(actions[index][:, 0], np.arange(length) / 100)


def test_who_needs_what_says_so() -> None:
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="CartPole-v1: has no scripted expert"):
        list(play(expert_policy(), [env], episodes(0)))
    with pytest.raises(TypeError, match=r"expected a Box action space, got Discrete"):
        list(play(zero_policy(), [env], episodes(0)))
    env.close()
