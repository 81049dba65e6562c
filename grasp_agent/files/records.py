"""Results as typed rows on disk, so that a stopped run goes on where it was.

FOLDER/STAGE.json            the settings that the rows were made with, versions, digests, and what a finished run adds
FOLDER/STAGE.parts/*.csv     the rows of each finished job, one file per job; its name holds the digest of its content
FOLDER/STAGE.csv             all rows in order, once the run is finished

Every file is written once and whole (`atomic`), so the folder is complete at any moment the process may be killed. A
row is a frozen dataclass whose fields are numbers or text, or None where a field's type says so. What was changed since
it was written is noticed by its SHA-256.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from grasp_agent.files.atomic import write_json, write_text
from grasp_agent.files.digest import json_sha256, sha256
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
_PART = re.compile(r"([0-9]{6,})-([0-9a-f]{16})\.csv")
"""The name of a part: its number, and the beginning of its digest."""


def columns(kind: type[Any]) -> list[str]:
    """Names of a row type's columns: its fields', or what a field's metadata calls "column"."""
    return [str(f.metadata.get("column", f.name)) for f in fields(kind)]


def as_columns(row: Any) -> dict[str, Any]:
    """A row's values by column."""
    return dict(zip(columns(type(row)), asdict(row).values(), strict=True))


def rows_text(kind: type[Row], rows: Iterable[Row]) -> str:
    """Rows as CSV. Numbers read back are the same numbers; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(kind), lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_columns(row) for row in rows)
    return text.getvalue()


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The inverse of `rows_text`.

    Raises:
        OSError: it cannot be read.
        ValueError: not such a file; the message names it by its last name.
    """
    parsers = [_PARSERS[str(f.type)] for f in fields(kind)]  # type: ignore[arg-type]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        if header != columns(kind):
            raise ValueError(f"the columns {', '.join(header)}")
        return [kind(*(parse(cell) for parse, cell in zip(parsers, line, strict=True))) for line in lines]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path.name} holds something else: {str(error)[:100]!r}") from None


class Records(Generic[Row]):
    """The rows of one stage.

    Args:
        folder: may hold an unfinished or finished run of the stage, which is continued.
        stage: names the files.
        kind: of the rows, a frozen dataclass.
        settings: JSON-serialisable; what determines the rows. None takes those that the folder holds.
        extendable: keys of `settings` that hold a mapping to which a later run may add entries, or a list that it may
            make longer.
        misfit: says of a row that was read what these settings would not have made, or None.
        key: what only one row may have. Default: all that is in it.
        lacking: says of the rows that were read what they lack for these settings and this run will not add, or None.

    Attributes:
        rows: those of finished jobs, in the order in which they were added, or in the final one.
        settings: with the entries of all runs.

    Raises:
        ValueError: the folder holds the stage with other settings, rows that do not suit them, lack something or were
            changed, or other files under these names. Nothing has been written then.
    """

    def __init__(
        self,
        folder: str | Path,
        stage: str,
        kind: type[Row],
        settings: Mapping[str, Any] | None,
        extendable: Sequence[str] = (),
        misfit: Callable[[Row, Mapping[str, Any]], str | None] = lambda row, settings: None,
        key: Callable[[Row], Any] | None = None,
        lacking: Callable[[Sequence[Row], Mapping[str, Any]], str | None] = lambda rows, settings: None,
    ) -> None:
        folder = Path(folder)
        self.kind, self.extendable, self.misfit, self.key = kind, tuple(extendable), misfit, key or _cells
        self.csv, self.json, self.parts = (folder / f"{stage}.{suffix}" for suffix in ("csv", "json", "parts"))
        self.rows: list[Row] = []
        self.settings: dict[str, Any] = json.loads(json.dumps(settings or {}))  # as they are read back
        self._csv_digests: list[str] = []
        written: dict[str, Any] | None = None
        if any(path.exists() for path in (self.csv, self.json, self.parts)):
            described, rows = self._read()
            written = described["settings"]
            if settings is None:
                self.settings = dict(written)
            expected = dict(written)
            for name in extendable:
                old, new = written[name], self.settings[name]
                if isinstance(new, dict):
                    self.settings[name], expected[name] = {**old, **new}, {**new, **old}
                elif new[: len(old)] == old:
                    expected[name] = new
            if different := list(_differences(expected, self.settings)):
                raise ValueError(
                    f"{self.json}: expected a run with the same settings to continue, got one with other"
                    f" {' and '.join(different[:4])}; {_ADVICE}"
                )
            self._check(rows)
            self._check_digests(described)
            if lack := lacking(self.rows, self.settings):
                raise ValueError(f"{self.json}: {lack}")
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
        last = max(self._part_files(), default=-1)
        text = rows_text(self.kind, rows)
        write_text(self.parts / f"{last + 1:06d}-{sha256(text.encode())[:16]}.csv", text)
        self.rows += rows

    def finish(self, order: Callable[[Row], Any], **more: Any) -> list[Row]:
        """Put all rows into one file, in the order of a sorting key, and remove the parts.

        Args:
            order: sorting key of a row.
            more: what the description tells beside settings, versions and digests.
        """
        self.rows.sort(key=order)
        text = rows_text(self.kind, self.rows)
        digest = sha256(text.encode())
        self._csv_digests = list(dict.fromkeys([*self._csv_digests, digest]))  # both are right until it is replaced
        self._describe(**more)
        write_text(self.csv, text)
        shutil.rmtree(self.parts, ignore_errors=True)
        self._csv_digests = [digest]
        self._describe(**more)
        return self.rows

    def _describe(self, **more: Any) -> None:
        digests = {"settings": json_sha256(self.settings), self.csv.name: self._csv_digests}
        write_json(self.json, {"settings": self.settings, "versions": versions(), "sha256": digests, **more})

    def _part_files(self) -> dict[int, Path]:
        """The parts by their numbers."""
        found = ((_PART.fullmatch(path.name), path) for path in sorted(self.parts.glob("*.csv")))
        return {int(match[1]): path for match, path in found if match is not None}

    def _read(self) -> tuple[dict[str, Any], dict[Path, list[Row]]]:
        """Read what the folder holds: the description, and the rows of each file."""
        try:
            described: dict[str, Any] = read_json(self.json, limit=_JSON_LIMIT)
            settings = described["settings"]
            if not isinstance(settings, dict):
                raise TypeError(f"settings that are {json.dumps(settings)[:40]}")
            for name in self.extendable:
                if not isinstance(settings[name], type(self.settings.get(name, {}))):
                    raise TypeError(f"{name} that are {json.dumps(settings[name])[:40]}")
            files = [self.csv] if self.csv.exists() else []
            return described, {file: read_rows(file, self.kind) for file in [*files, *self._part_files().values()]}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.json.parent}: expected {self.json.name} and {self.csv.name} of an earlier run, got files that"
                f" cannot be read ({type(error).__name__}: {error}); {_ADVICE}"
            ) from error

    def _check(self, read: Mapping[Path, Sequence[Row]]) -> None:
        """Take over the rows that were read, if they suit the settings."""
        found: dict[Any, tuple[Any, Row]] = {}
        for file, rows in read.items():
            for row in rows:
                wrong = self.misfit(row, self.settings)
                # Killed between writing the merged file and removing the parts, a run leaves rows in both.
                if wrong is None and found.setdefault(self.key(row), (_cells(row), row))[0] != _cells(row):
                    wrong = f"expected one row of a kind, got two that differ ({', '.join(_cells(row)[:3])})"
                if wrong is not None:
                    raise ValueError(f"{file}: {wrong}; put the file back as it was, or {_ADVICE}")
        self.rows = [row for _, row in found.values()]

    def _check_digests(self, described: Mapping[str, Any]) -> None:
        """Compare what was read with the digests that were noted; files of older versions have none."""
        noted = described.get("sha256", {})
        sound = {self.json: _is_noted(noted, "settings", json_sha256(described["settings"]))}
        if self.csv.exists():
            self._csv_digests = [sha256(self.csv)]
            sound[self.csv] = _is_noted(noted, self.csv.name, self._csv_digests[0])
        for part in self._part_files().values():
            sound[part] = sha256(part).startswith(part.stem.partition("-")[2])
        changed = next((file for file, is_sound in sound.items() if not is_sound), None)
        if changed is not None:
            raise ValueError(
                f"{changed}: expected the file that the earlier run wrote, got one that was changed since (its SHA-256"
                f" differs); put it back as it was, or {_ADVICE}"
            )


def _cells(row: Any) -> tuple[str, ...]:
    return tuple(map(str, as_columns(row).values()))


def _is_noted(noted: Any, name: str, digest: str) -> bool:
    """Whether a digest is the one, or one of those, noted under a name; that of an older file is not."""
    if not isinstance(noted, dict):
        return False
    there = noted.get(name, digest)
    return digest == there or (isinstance(there, list) and digest in there)


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
