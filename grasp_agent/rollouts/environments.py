"""Making the environment each entrant needs: the same task and seeds, seen through its own observation."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from grasp_agent.core.by_name import by_name
from grasp_agent.core.capabilities import PROPRIO_KEYS, image_size_of, proprio_dim_of
from grasp_agent.core.checks import shown
from grasp_agent.core.types import WorldModel
from grasp_agent.rollouts.given_goal import GoalFunction, GoalImage
from grasp_agent.rollouts.hindsight import HindsightGoal
from grasp_agent.rollouts.rendered import RenderedFrames, image_side
from grasp_agent.rollouts.repeated import RepeatAction
from grasp_agent.rollouts.told_success import NamedSuccess, SuccessFunction, told_success
from grasp_agent.tasks import task_for
from grasp_agent.tasks.task import (
    GIVEN_GOALS,
    GOAL_FUNCTION,
    GOAL_IMAGE,
    HINDSIGHT,
    RENDERED,
    REPEAT_ACTION,
    SUCCESS_FUNCTION,
    SUCCESS_KEY,
    TOLD_SUCCESS,
)


def _rendered(env: gym.Env[Any, Any], side: int) -> RenderedFrames:
    """Rendered pictures in place of observations without: others may look different from those a model has seen."""
    if (own := image_side(env.observation_space)) is not None:
        raise ValueError(f"{env}: expected observations without a picture to render in its place, got {own} px ones")
    return RenderedFrames(env, side)


def _goal_function(env: gym.Env[Any, Any], name: str) -> GoalFunction:
    return GoalFunction(env, by_name("goal function", name), f"goal function {name}")


WRAPPERS: dict[str, Callable[[gym.Env[Any, Any], Any], gym.Env[Any, Any]]] = {
    SUCCESS_KEY: NamedSuccess,
    SUCCESS_FUNCTION: SuccessFunction,
    REPEAT_ACTION: RepeatAction,
    RENDERED: _rendered,
    HINDSIGHT: HindsightGoal,
    GOAL_IMAGE: GoalImage,
    GOAL_FUNCTION: _goal_function,
}
"""What arguments that every environment understands here wrap it in, from the inside out."""


def make_env(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """`gymnasium.make` that finds the package of a namespaced id by itself and says in one sentence what is
    wrong.

    Args:
        env_id: e.g. "CartPole-v1" or "package:namespace/Name-v0".
        kwargs: the environment's arguments, and perhaps some that every environment understands here, see `WRAPPERS`:
            `rendered`, a number of pixels, for rendered pictures of that height and width as observations;
            `repeat_action`, for how many steps each action lasts; one of `GIVEN_GOALS`: `hindsight`, a number of steps,
            `goal_image`, a file, or `goal_function`, "module:function"; and one of `TOLD_SUCCESS`: `success_key`, an
            entry of `info`, or `success_function`, "module:function".

    Raises:
        TypeError: the id is no string, or a number is asked for and something else came.
        ValueError: no such environment, or it refuses the arguments.
    """
    if not isinstance(env_id, str):
        raise TypeError(f"environment: expected an id such as 'CartPole-v1', got {shown(env_id)}")
    if env_id.startswith(":"):
        raise ValueError(f"environment: expected the name of a module before the colon, got {shown(env_id)}")
    asked = {name: value for name in WRAPPERS if (value := kwargs.pop(name, None)) is not None}
    for kind, names in (("goals", GIVEN_GOALS), ("success", TOLD_SUCCESS)):
        if len(several := [name for name in names if name in asked]) > 1:
            raise ValueError(f"{kind}: expected at most one of {', '.join(names)}, got {' and '.join(several)}")
    with warnings.catch_warnings():
        if RENDERED in asked or HINDSIGHT in asked:
            kwargs = {"render_mode": "rgb_array", **kwargs}
            # that there is no such render mode: the wrappers refuse it in one sentence
            warnings.filterwarnings("ignore", message=".*render_mode='rgb_array' that is not in")
        env = _bare(env_id, kwargs)
    try:
        for name, wrapped in WRAPPERS.items():
            if name in asked:
                env = wrapped(env, asked[name])
    except (ValueError, TypeError):
        env.close()
        raise
    return env


def _bare(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """The environment alone."""
    name = env_id
    if ":" not in env_id and env_id not in gym.registry and "/" in env_id:
        package = env_id.split("/")[0]
        if package.isidentifier() and importlib.util.find_spec(package) is not None:
            name = f"{package}:{env_id}"
    try:
        return gym.make(name, disable_env_checker=True, **kwargs)
    except (gym.error.Error, ModuleNotFoundError) as error:
        reason = _one_line(error).rstrip(".") + _hint(error, env_id)
        raise ValueError(f"environment {env_id!r} cannot be made: {reason}") from error
    except TypeError as error:
        raise ValueError(f"environment {env_id!r} refuses {kwargs}: {_one_line(error)}") from error


def open_env(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    wishes: Iterable[Mapping[str, Any]],
    fits: Callable[[gym.Env[Any, Any]], bool],
    needs: str,
) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
    """Make the environment with the first of several arguments under which it suits an entrant.

    Args:
        env_id: the environment.
        env_kwargs: arguments everyone gets.
        wishes: arguments to try on top of them, in order; a wish the environment refuses is passed over, but not one
            for which something is not installed.
        fits: whether an environment suits.
        needs: what the entrant needs, for the error message.

    Returns:
        The environment, and the arguments it was made with.

    Raises:
        ValueError: no such environment, something that it needs is not there, or none of the wishes makes it suit.
    """
    # An error in the common arguments is the caller's, whatever the wishes.
    make_env(env_id, **env_kwargs).close()
    seen: list[str] = []
    unsuited: ValueError | None = None
    for wish in wishes:
        kwargs = {**env_kwargs, **wish}
        try:
            env = make_env(env_id, **kwargs)
        except ValueError as error:
            if isinstance(error.__cause__, gym.error.DependencyNotInstalled):
                raise  # it knows the wish, and says what it lacks
            seen.append(str(error))
            continue
        if fits(env):
            try:
                _try_out(env)
                return env, {key: value for key, value in kwargs.items() if key != "render_mode"}
            except ValueError as error:
                unsuited = unsuited or error
        elif str(env.observation_space) not in seen:
            seen.append(str(env.observation_space))
        env.close()
    if unsuited is not None:
        raise unsuited
    raise ValueError(f"environment {env_id!r} with {dict(env_kwargs)}: expected {needs}, got only {'; '.join(seen)}")


def _try_out(env: gym.Env[Any, Any]) -> None:
    """See whether a goal and a success that the user gives suit, before anything is written.

    Raises:
        ValueError: they do not.
    """
    if isinstance(env, GoalFunction):
        env.try_out(seed=0)
    if (told := told_success(env)) is not None:
        told.reset(seed=0)
        told.step(told.action_space.sample())


def open_for_model(
    model: WorldModel, env_id: str, env_kwargs: Mapping[str, Any], acts: spaces.Space[Any] | None = None
) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
    """Make the environment so that it shows pictures of the model's size, or vectors to a model that takes them.

    A model that reads proprioception beside pictures gets observations with both.

    Args:
        model: who looks.
        env_id: the environment.
        env_kwargs: arguments that it gets in any case.
        acts: actions that it must take; None leaves them open.

    Returns:
        The environment, and the arguments it was made with.

    Raises:
        ValueError: as `open_env`.
    """
    side, proprio = image_size_of(model), proprio_dim_of(model)

    def fits(env: gym.Env[Any, Any]) -> bool:
        space = env.observation_space
        if side is not None and image_side(space) != side:
            return False
        if proprio and not (
            isinstance(space, spaces.Dict)
            and any(space[key].shape == (proprio,) for key in PROPRIO_KEYS if key in space.spaces)
        ):
            return False
        offered = env.action_space
        if acts is None:
            return True
        if not (isinstance(offered, spaces.Box) and isinstance(acts, spaces.Box)):
            return bool(offered == acts)
        if offered.shape != acts.shape:
            return False
        return bool((acts.low >= offered.low).all() and (acts.high <= offered.high).all())

    task = task_for(env_id)
    wishes: list[Mapping[str, Any]] = [{}] if side is None else list(task.picture_wishes(side))
    needs = [] if side is None else [f"{side} x {side} x 3 uint8 images for the world model"]
    if side is not None and proprio:
        wishes += [{**task.pictures(side), **kwargs} for kwargs in task.policy_kwargs]
        needs.append(f"{proprio} numbers of proprioception under {' or '.join(map(repr, PROPRIO_KEYS))}")
    needs += [] if acts is None else [f"actions that hold the agent's {acts}"]
    return open_env(env_id, env_kwargs, wishes, fits, ", and ".join(needs) or "any observation")


def shows_vectors(space: spaces.Space[Any]) -> bool:
    """Whether observations are vectors, or dictionaries of vectors."""
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    return all(isinstance(part, spaces.Box) and len(part.shape) == 1 for part in parts)


def same_space(wanted: spaces.Space[Any], offered: spaces.Space[Any]) -> bool:
    """Whether two spaces are equal, but for images that `VecTransposeImage` gave channels first."""
    if isinstance(wanted, spaces.Dict) and isinstance(offered, spaces.Dict):
        return wanted.spaces.keys() == offered.spaces.keys() and all(
            same_space(wanted[key], offered[key]) for key in wanted.spaces
        )
    if wanted == offered:
        return True
    if not (isinstance(wanted, spaces.Box) and isinstance(offered, spaces.Box) and len(offered.shape) == 3):
        return False
    height, width, channels = offered.shape
    return wanted.dtype == offered.dtype == "uint8" and wanted.shape == (channels, height, width)


def _hint(error: BaseException, env_id: str) -> str:
    """What to try where an environment is not found."""
    if isinstance(error, ModuleNotFoundError):
        return "; what stands before the colon must be a module that is installed or lies in the current folder"
    unknown = isinstance(error, gym.error.NameNotFound | gym.error.NamespaceNotFound)
    if unknown and ":" not in env_id and "Did you mean" not in str(error):
        return f"; if a package of its own registers it, name that too, as in PACKAGE:{env_id}"
    return ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
