"""TensorBoard's events say what log.jsonl says, whatever happened on the way."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grasp_agent.data import EpisodeDataset
from grasp_agent.training import LatentRecipe, train
from grasp_agent.training.loop import read_log
from grasp_agent.training.representation import RepresentationTask

pytest.importorskip("tensorboard", reason="TensorBoard is an extra")


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) in the order in which they were written, by tag."""
    loader: Any = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    (file,) = (out / "tensorboard").iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for event in loader.EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def logged(out: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of log.jsonl."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in read_log(out):
        for name, value in row.items():
            if name not in ("stage", "step"):
                found.setdefault(f"{row['stage']}/{name}", []).append((row["step"], pytest.approx(value, rel=1e-6)))
    return found


def test_events_are_those_of_the_log_after_a_resumption_too(
    pusht_data: EpisodeDataset,
    tiny_recipe: Callable[..., LatentRecipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, losses = tiny_recipe("planar_push"), RepresentationTask.losses
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return losses(*args, **kwargs)

    # A checkpoint after the third step only: the line of the fourth is written, and then once more.
    with monkeypatch.context() as patch:
        patch.setattr(RepresentationTask, "losses", interrupted)
        checkpoints = importlib.import_module("grasp_agent.training.loop")
        save, saved = checkpoints._save, []

        def seldom(path: Path, module: Any, optimiser: Any, step: int, stage: Any) -> None:
            if step == 3:
                saved.append(step)
                save(path, module, optimiser, step, stage)

        patch.setattr(checkpoints, "_save", seldom)
        with pytest.raises(KeyboardInterrupt):
            train(pusht_data, recipe, tmp_path, tensorboard=True)
    assert saved == [3]
    before = events(tmp_path)
    assert [step for step, _ in before["encoder/loss"]] == [2, 4] and before == logged(tmp_path)

    shown: list[int] = []
    train(pusht_data, recipe, tmp_path, tensorboard=True, on_log=lambda stage, step, steps, terms: shown.append(step))
    after = events(tmp_path)
    assert [step for step, _ in after["encoder/loss"]] == [2, 4, 6] == [step for step, _ in after["dynamics/loss"]]
    assert after == logged(tmp_path) and len(after) >= 4
    assert shown == [4, 6, 2, 4, 6]

    for file in (tmp_path / "tensorboard").iterdir():  # what is done can be written once more
        file.unlink()
    train(pusht_data, recipe, tmp_path, tensorboard=True)
    assert events(tmp_path) == after


def test_events_are_written_only_if_asked_for(
    pusht_data: EpisodeDataset, tiny_recipe: Callable[..., LatentRecipe], tmp_path: Path
) -> None:
    train(pusht_data, tiny_recipe("planar_push"), tmp_path / "out")
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_without_the_package_nothing_is_written(
    pusht_data: EpisodeDataset,
    tiny_recipe: Callable[..., LatentRecipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"need the package tensorboard: pip install 'grasp-agent\[tensorboard\]'"):
        train(pusht_data, tiny_recipe("planar_push"), tmp_path / "out", tensorboard=True)
    assert not (tmp_path / "out").exists()
