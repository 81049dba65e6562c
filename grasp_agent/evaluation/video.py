"""Videos of entrants side by side on the same episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grasp_agent.evaluation.policies import make_entrants
from grasp_agent.evaluation.results import EpisodeResult
from grasp_agent.evaluation.scoring import SameEpisodes, Scorer
from grasp_agent.files.atomic import check_writable, replacing
from grasp_agent.rollouts.vector import Episode, TimeStep, play
from grasp_agent.tasks import Task, task_for

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".mp4", ".gif")
HOLD_SECONDS = 1.0
GOAL_SHARE = 4
"""A scene is this many times as wide as the goal's picture beneath it."""
_DEFAULT_FPS = 30
_BACKGROUND, _INK, _SOLVED = (255, 255, 255), (40, 40, 40), (20, 130, 60)
_MULTIPLE = 16  # video codecs want sides that divide by this


@dataclass(frozen=True)
class _Moment:
    """What the video shows of one entrant at one step."""

    picture: Image
    goal: Image | None
    step: int
    solved: bool
    solved_before: bool


def record_video(
    entrants: Mapping[str, Any] | Sequence[str],
    env_id: str,
    seeds: Sequence[int],
    path: str | Path,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    panel_size: int = 320,
    trust: bool = False,
) -> list[EpisodeResult]:
    """Film entrants playing the same seeded episodes, side by side, at the environment's frame rate.

    Each panel bears the entrant's name, the environment's rendering, the goal's picture where observations
    hold one, the step and whether the task is solved. Who finishes early stands still until all have
    finished.

    Args:
        entrants: as for `evaluate`.
        env_id: an environment with render mode "rgb_array".
        seeds: the episodes, one after the other.
        path: the file to write, .mp4 or .gif.
        env_kwargs: arguments of the environment that everyone gets.
        panel_size: side of one rendering in pixels.
        trust: as for `evaluate`.

    Returns:
        How the episodes went.

    Raises:
        ValueError: another suffix, or as `evaluate`.
        OSError: the path cannot be written; told before anything is played.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"video: expected a path ending in {' or '.join(SUFFIXES)}, got {path}")
    if not seeds:
        raise ValueError("seeds: expected at least one, got none")
    participants, task = make_entrants(entrants, trust=trust), task_for(env_id)
    episodes = [Episode(index, int(seed), policy_seed=int(seed)) for index, seed in enumerate(seeds)]
    rows: list[EpisodeResult] = []
    films: list[list[list[_Moment]]] = [[] for _ in episodes]
    same, fps = SameEpisodes(), _DEFAULT_FPS
    with ExitStack() as stack:
        envs = {}
        for name, entrant in participants.items():
            envs[name], _ = entrant.open(env_id, {**(env_kwargs or {}), "render_mode": "rgb_array"})
            stack.callback(envs[name].close)
            fps = int(envs[name].metadata.get("render_fps", _DEFAULT_FPS))
        check_writable(path)  # only now that nothing can be wrong with the arguments any more
        for name, entrant in participants.items():
            scorer = Scorer(name, task)
            for step in play(entrant.policy(env_id), [envs[name]], episodes):
                if step.number == 0:
                    same.check(name, step.episode.index, step.info)
                    films[step.episode.index].append([])
                moments = films[step.episode.index][-1]
                moments.append(_moment(step, task, panel_size, moments[-1] if moments else None))
                if result := scorer.add(step):
                    rows.append(result)
    frames = _frames(list(participants), films, panel_size, hold=max(1, round(HOLD_SECONDS * fps)))
    with replacing(path) as temporary:
        if path.suffix == ".gif":
            _write_gif(frames, temporary, fps)
        else:
            _write_mp4(frames, temporary, fps)
    return sorted(rows, key=lambda row: row.episode)


def _moment(step: TimeStep, task: Task, panel_size: int, before: _Moment | None) -> _Moment:
    return _Moment(
        picture=_scene(step.env.render(), panel_size),
        goal=_goal(task.goal(step.observation, {}), panel_size // GOAL_SHARE),
        step=step.number,
        solved=step.number > 0 and bool(task.solved(step.info)),
        solved_before=before is not None and (before.solved or before.solved_before),
    )


def _scene(rendering: Any, size: int) -> Image:
    from PIL import Image

    return Image.fromarray(np.asarray(rendering, np.uint8)).resize((size, size), Image.Resampling.LANCZOS)


def _goal(goal: Any, side: int) -> Image | None:
    """The goal as the entrant sees it, if its observation holds a picture of it."""
    from PIL import Image

    if isinstance(goal, np.ndarray) and goal.dtype == np.uint8 and goal.ndim == 3 and goal.shape[-1] == 3:
        return Image.fromarray(goal).resize((side, side), Image.Resampling.LANCZOS)
    return None


def _frames(
    names: Sequence[str], films: Sequence[Sequence[Sequence[_Moment]]], size: int, hold: int
) -> Iterator[NDArray[np.uint8]]:
    """Compose the panels of every step of every episode; an episode's last step is held for `hold` frames."""
    from PIL import Image, ImageDraw

    bar, gap = max(20, size // 11), max(4, size // 40)
    # Beneath the scenes, so that it hides nothing, a strip for the goal as each entrant sees it.
    pictured = any(moment.goal for film in films for moments in film for moment in moments[:1])
    side = size // GOAL_SHARE if pictured else 0
    width, height = len(names) * (size + gap) + gap, size + 2 * bar + side + (gap if pictured else 0)
    shape = (-(-width // _MULTIPLE) * _MULTIPLE, -(-height // _MULTIPLE) * _MULTIPLE)
    font = _font(round(bar * 0.6))
    for film in films:
        length = max(len(moments) for moments in film)
        for at in [*range(length), *[length - 1] * hold]:
            frame = Image.new("RGB", shape, _BACKGROUND)
            draw = ImageDraw.Draw(frame)
            for index, (name, moments) in enumerate(zip(names, film, strict=True)):
                moment = moments[min(at, len(moments) - 1)]
                left = gap + index * (size + gap)
                frame.paste(moment.picture, (left, bar))
                draw.rectangle((left - 1, bar - 1, left + size, bar + size), outline=_INK)
                draw.text(
                    (left + size // 2, bar // 2),
                    _fitting(name, font, size),
                    fill=_INK,
                    font=font,
                    anchor="mm",
                )
                middle = bar + size + bar // 2
                draw.text((left + 2, middle), f"step {moment.step}", fill=_INK, font=font, anchor="lm")
                if moment.solved or moment.solved_before:
                    word = "success" if moment.solved else "success earlier"
                    draw.text((left + size - 2, middle), word, fill=_SOLVED, font=font, anchor="rm")
                if moment.goal is not None:
                    corner, top = left + size - side, size + 2 * bar
                    frame.paste(moment.goal, (corner, top))
                    draw.rectangle((corner - 1, top - 1, corner + side, top + side), outline=_INK)
                    draw.text((corner - gap, top + side // 2), "goal as seen", fill=_INK, font=font, anchor="rm")
            yield np.asarray(frame)


def _fitting(text: str, font: Any, width: int) -> str:
    """Shorten a name until it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(max(9, size))


def _write_mp4(frames: Iterator[NDArray[np.uint8]], path: Path, fps: int) -> None:
    import imageio.v2 as imageio

    settings: dict[str, Any] = {"fps": fps, "codec": "libx264", "macro_block_size": _MULTIPLE}
    writer: Any = imageio.get_writer(path, format="FFMPEG", **settings)
    with writer:
        for frame in frames:
            writer.append_data(frame)


def _write_gif(frames: Iterator[NDArray[np.uint8]], path: Path, fps: int) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame).quantize(64) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
