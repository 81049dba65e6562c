"""The attack suite's table: what was tried, what held, what was lost, and where it was not said clearly why."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import Tally

_TALLY = pytest.StashKey[Tally]()
_PROPERTY = "attack"


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts the attacks of a test; those that were lost or unclear let it fail."""
    counted = request.node.stash[_TALLY] = Tally(request.module.AREA)
    yield counted
    for word, found in (("lost", counted.lost), ("unclear", counted.unclear)):
        if found:
            pytest.fail(f"{len(found)} of {counted.tried} {word}: " + "; ".join(found[:5]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A test that counts nothing is one attack; one that an error ends has lost it."""
    report = yield
    area = getattr(getattr(item, "module", None), "AREA", None)
    if area is not None and call.when == "call":
        counted = item.stash.get(_TALLY, Tally(area))
        failed = int(report.failed)
        held = counted.held if _TALLY in item.stash else int(report.passed)
        report.user_properties.append((_PROPERTY, [area, held, len(counted.lost) + failed, len(counted.unclear)]))
    if area is not None and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        report.user_properties.append((f"{_PROPERTY} skipped", f"{area}: {reason}"))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows: dict[str, list[int]] = {}
    skipped = set()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name == _PROPERTY and report.when == "call":
                rows[value[0]] = [a + b for a, b in zip(rows.get(value[0], [0, 0, 0]), value[1:], strict=True)]
            elif name == f"{_PROPERTY} skipped":
                skipped.add(value)
    if rows:
        terminalreporter.section("attacks")
        for words in (("area", "tried", "held", "lost", "unclear"), *_table(rows)):
            terminalreporter.write_line(f"{words[0]:44}" + "".join(f"{word:>9}" for word in words[1:]))
    for reason in sorted(skipped):
        terminalreporter.write_line(f"NOT TRIED: {reason}", red=True)


def _table(rows: dict[str, list[int]]) -> Iterator[tuple[Any, ...]]:
    total = [sum(column) for column in zip(*rows.values(), strict=True)]
    for area, (held, lost, unclear) in [*rows.items(), ("all", total)]:
        yield area, held + lost + unclear, held, lost, unclear


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not hasattr(item.module, "AREA"):  # type: ignore[attr-defined]
            raise pytest.UsageError(f"{item.path}: expected AREA, the name of what is attacked")
