"""Results as typed rows on disk, so that a stopped run goes on where it was.

FOLDER/STAGE.json            the settings that the rows were made with, versions, and what a finished run adds
FOLDER/STAGE.parts/*.csv     the rows of each finished job, one file per job
FOLDER/STAGE.csv             all rows in order, once the run is finished

Every file is written once and whole (`atomic`), so the folder is complete at any moment the process may be killed. A
row is a frozen dataclass whose fields are numbers or text, or None where a field's type says so.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from grasp_agent.files.atomic import write_json, write_text
from grasp_agent.files.reading import read_json
from grasp_agent.files.versions import versions

Row = TypeVar("Row")
Value = TypeVar("Value")

_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "int | None": lambda text: int(text) if text else None,
    "float | None": lambda text: float(text) if text else None,
}
_JSON_LIMIT = 100_000_000  # the settings may name many thousand episodes
_ADVICE = "use another folder, or remove this one"


def columns(kind: type[Any]) -> list[str]:
    """Names of a row type's columns: its fields', or what a field's metadata calls "column"."""
    return [str(f.metadata.get("column", f.name)) for f in fields(kind)]


def as_columns(row: Any) -> dict[str, Any]:
    """A row's values by column."""
    return dict(zip(columns(type(row)), asdict(row).values(), strict=True))


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows as CSV. Numbers read back are the same numbers; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(kind), lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_columns(row) for row in rows)
    write_text(path, text.getvalue())


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The inverse of `write_rows`.

    Raises:
        OSError, ValueError: not such a file.
    """
    parsers = [_PARSERS[str(f.type)] for f in fields(kind)]  # type: ignore[arg-type]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
    except csv.Error as error:
        raise ValueError(f"{path.name} is no table ({error})") from None
    if header != columns(kind):
        raise ValueError(f"{path.name} has the columns {', '.join(header)}")
    return [kind(*(parse(cell) for parse, cell in zip(parsers, line, strict=True))) for line in lines]


class Records(Generic[Row]):
    """The rows of one stage.

    Args:
        folder: may hold an unfinished or finished run of the stage, which is continued.
        stage: names the files.
        kind: of the rows, a frozen dataclass.
        settings: JSON-serialisable; what determines the rows.
        extendable: keys of `settings` that hold a mapping to which a later run may add entries.

    Attributes:
        rows: those of finished jobs, in the order in which they were added, or in the final one.
        settings: with the entries of all runs.

    Raises:
        ValueError: the folder holds the stage with other settings, or other files under these names. Nothing has been
            written then.
    """

    def __init__(
        self,
        folder: str | Path,
        stage: str,
        kind: type[Row],
        settings: Mapping[str, Any],
        extendable: Sequence[str] = (),
    ) -> None:
        folder = Path(folder)
        self.kind, self.extendable = kind, tuple(extendable)
        self.csv, self.json, self.parts = (folder / f"{stage}.{suffix}" for suffix in ("csv", "json", "parts"))
        self.rows: list[Row] = []
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they are read back
        written = self._read() if any(path.exists() for path in (self.csv, self.json, self.parts)) else None
        if written is not None:
            merged = {key: {**written.get(key, {}), **self.settings[key]} for key in extendable}
            self.settings |= merged
            expected = {**written, **{key: {**entries, **written.get(key, {})} for key, entries in merged.items()}}
            if different := list(_differences(expected, self.settings)):
                raise ValueError(
                    f"{folder}: expected a run with the same settings to continue, got one with other"
                    f" {' and '.join(different[:4])}; {_ADVICE}"
                )
        if self.settings != written:
            self._describe()

    def where(self, **values: Any) -> list[Row]:
        """The rows whose fields have these values."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in values.items())]

    def missing(self, field: str, wanted: Iterable[Value], **values: Any) -> list[Value]:
        """Those of the `wanted` values of `field` that no row has among those with these `values`."""
        there = {getattr(row, field) for row in self.where(**values)}
        return [value for value in wanted if value not in there]

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of a finished job; they are on disk when this returns."""
        last = max((int(part.stem) for part in self._part_files()), default=-1)
        write_rows(self.parts / f"{last + 1:06d}.csv", self.kind, rows)
        self.rows += rows

    def finish(self, order: Callable[[Row], Any], **more: Any) -> list[Row]:
        """Put all rows into one file, in the order of a sorting key, and remove the parts.

        Args:
            order: sorting key of a row.
            more: what the description tells beside settings and versions.
        """
        self.rows.sort(key=order)
        write_rows(self.csv, self.kind, self.rows)
        shutil.rmtree(self.parts, ignore_errors=True)
        self._describe(**more)
        return self.rows

    def _describe(self, **more: Any) -> None:
        write_json(self.json, {"settings": self.settings, "versions": versions(), **more})

    def _part_files(self) -> list[Path]:
        return sorted(part for part in self.parts.glob("[0-9]*.csv") if part.stem.isdecimal())

    def _read(self) -> dict[str, Any]:
        """Read the rows; return the settings that they were made with."""
        try:
            settings: dict[str, Any] = read_json(self.json, limit=_JSON_LIMIT)["settings"]
            for content in (settings, *(settings.get(key, {}) for key in self.extendable)):
                if not isinstance(content, dict):
                    raise TypeError(f"settings that are {json.dumps(content)[:40]}")
            files = [self.csv] if self.csv.exists() else []
            rows = [row for file in [*files, *self._part_files()] for row in read_rows(file, self.kind)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.json.parent}: expected {self.json.name} and {self.csv.name} of an earlier run, got files that"
                f" cannot be read ({type(error).__name__}: {error}); {_ADVICE}"
            ) from error
        # Killed between writing the merged file and removing the parts, a run leaves rows in both.
        self.rows = list({tuple(map(str, as_columns(row).values())): row for row in rows}.values())
        return settings


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Paths, such as "entrants.grasp.horizon", at which two JSON contents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            here = f"{path}.{key}" if path else str(key)
            if key not in one or key not in other:
                yield here
            else:
                yield from _differences(one[key], other[key], here)
    elif one != other:
        yield path
