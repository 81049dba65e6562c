"""From one format to another, by what the two places are called.

minari:NAME      a Minari data set that is installed here
lerobot:FOLDER   a LeRobot data set in a folder
FOLDER           a data folder of ours
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from grasp_agent.core.checks import whole_number
from grasp_agent.data.foreign.lerobot import LeRobotSource
from grasp_agent.data.foreign.minari import MinariSource, write_minari
from grasp_agent.data.foreign.source import OnPart, write_folder
from grasp_agent.rollouts.rendered import MOST_PIXELS

SHARD_STEPS = 5000
SIDE = 64


def convert(
    data: str | Path,
    out: str | Path,
    *,
    resolution: int | None = None,
    picture_key: str | None = None,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    action_bounds: Sequence[float] = (),
    download: bool = False,
    shard_steps: int = SHARD_STEPS,
    on_part: OnPart | None = None,
) -> None:
    """Write a data set of another program as a data folder, or a data folder as a Minari data set.

    A conversion into a data folder that was stopped goes on where it was. One into a Minari data set begins again.

    Args:
        data: "minari:NAME", "lerobot:FOLDER" or a data folder.
        out: a data folder, or "minari:NAME" for a new Minari data set; one of the two places is a data folder.
        resolution: height and width of the recorded pictures; None means 64.
        picture_key: where in an observation the picture is. None finds out by itself where there is one.
        env_id: the environment that the data are from, where the data do not say it.
        env_kwargs: its arguments.
        action_bounds: least and largest value of all numbers of an action, or of each in turn, where the data do not
            tell them.
        download: fetch the Minari data set if it is not installed.
        shard_steps: steps in one shard, at least.
        on_part: called with (parts done, parts in all).

    Raises:
        ValueError: the places are not such a pair, there is no such data set, it does not fit the arguments, or `out`
            holds other data.
        TypeError: its actions are neither a Box nor choices.
        ImportError: the package of the format is not installed.
        OSError: a file cannot be read or written.
        RuntimeError: another run writes to `out`.
    """
    (kind, place), (out_kind, out_place) = _split(data), _split(out)
    if (kind == "") == (out_kind == "") or out_kind == "lerobot":
        raise ValueError(
            "convert: expected minari:NAME or lerobot:FOLDER into a data folder, or a data folder into minari:NAME, got"
            f" {data} into {out}"
        )
    if not place or not out_place:
        raise ValueError(f"convert: expected a name after the colon, got {out if place else data}")
    if env_kwargs and env_id is None:
        raise ValueError(f"env_kwargs: expected none without an environment, got {dict(env_kwargs)}; try --env")
    if kind != "minari" and download:
        raise ValueError(f"download: expected a Minari data set to download, got {data}")
    kwargs = dict(env_kwargs or {})
    if out_kind == "minari":
        for name, value in (("resolution", resolution), ("picture_key", picture_key), ("action_bounds", action_bounds)):
            if value:
                raise ValueError(f"{name}: expected none for what becomes a Minari data set, got {value}; leave it out")
        write_minari(Path(place), out_place, env_id, kwargs, shard_steps, on_part)
        return
    side = whole_number("resolution", SIDE if resolution is None else resolution, 1, MOST_PIXELS, " pixels")
    source: MinariSource | LeRobotSource
    if kind == "minari":
        source = MinariSource(place, side, picture_key, env_id, kwargs, action_bounds, download)
    else:
        source = LeRobotSource(Path(place), side, picture_key, env_id, kwargs, action_bounds)
    with closing(source):
        write_folder(source, Path(out_place), shard_steps, on_part)


def _split(place: str | Path) -> tuple[str, str]:
    """The format that a place is called by, "" for a data folder, and its name there."""
    kind, _, rest = str(place).partition(":")
    return (kind, rest) if kind in ("minari", "lerobot") else ("", str(place))
