"""What a training logs, for TensorBoard to draw: OUT/tensorboard, a scalar STAGE/TERM for each term of each stage.

The events are a copy of log.jsonl. A run writes them anew from there before it adds its own, so that after a
resumption they hold no steps that were made again, whatever ended the run before.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from grasp_agent.training.loop import read_log

FOLDER_NAME = "tensorboard"


class TensorBoardLog:
    """Writes the log of a training for TensorBoard, as it grows.

    Args:
        folder: of the training, with log.jsonl in it.

    Raises:
        ImportError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            importlib.import_module("tensorboard")
            self._make: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError:
            raise ImportError(
                "events for TensorBoard need the package tensorboard: pip install 'grasp-agent[tensorboard]'"
            ) from None
        self.folder = folder
        self._writer: Any = None
        self._written = 0

    def update(self) -> None:
        """Write the lines of log.jsonl that are not written yet; the first time all, in place of older events.

        Call it first when the lines behind the checkpoint are gone.
        """
        if self._writer is None:
            for old in (self.folder / FOLDER_NAME).glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = self._make(str(self.folder / FOLDER_NAME))
        rows = read_log(self.folder)
        for row in rows[self._written :]:
            for name, value in row.items():
                if name not in ("stage", "step"):
                    self._writer.add_scalar(f"{row['stage']}/{name}", value, row["step"])
        self._written = len(rows)
        self._writer.flush()

    def close(self) -> None:
        """Have everything that was written on the disk."""
        if self._writer is not None:
            self._writer.close()
