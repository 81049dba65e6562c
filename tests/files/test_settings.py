"""Settings from a file: every name and every kind of value is checked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from grasp_agent.files.settings import check_settings


@dataclass(frozen=True)
class Wheel:
    radius: float
    spokes: int = 8


@dataclass(frozen=True)
class Bike:
    name: str
    wheels: tuple[Wheel, ...]
    gears: int = 3
    length: float = 1.5
    size: tuple[int, int] = (1, 2)
    bell: bool = True
    light: float | None = None
    colour: Literal["red", "blue"] = "red"
    notes: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    anything: Any = None


WHOLE: dict[str, Any] = json.loads(json.dumps(asdict(Bike("a", (Wheel(0.3), Wheel(0.4))))))


def test_what_was_saved_fits() -> None:
    check_settings(Bike, WHOLE)
    check_settings(Bike, {**WHOLE, "length": 2, "light": 1.5, "anything": [{}], "extras": {"a": 1}, "wheels": []})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gears": 3.0}, "gears: expected a whole number, got 3.0"),
        ({"gears": True}, "gears: expected a whole number, got True"),
        ({"gears": "3"}, "gears: expected a whole number, got '3'"),
        ({"gears": None}, "gears: expected a whole number, got None"),
        ({"gears": 10**400}, "gears: expected a whole number, got 1000"),
        ({"length": float("nan")}, "length: expected a finite number, got nan"),
        ({"length": float("inf")}, "length: expected a finite number, got inf"),
        ({"length": False}, "length: expected a finite number, got False"),
        ({"length": [1.0]}, "length: expected a finite number, got"),
        ({"light": "on"}, "light: expected a finite number or null, got 'on'"),
        ({"bell": 1}, "bell: expected true or false, got 1"),
        ({"name": 1}, "name: expected text, got 1"),
        ({"colour": "green"}, "colour: expected 'red' or 'blue', got 'green'"),
        ({"size": [1]}, "size: expected a list of 2, got"),
        ({"size": {"0": 1}}, "size: expected a list, got"),
        ({"notes": ["a", 1]}, "notes: expected in the list text, got"),
        ({"extras": []}, "extras: expected an object, got"),
        ({"wheels": [{"radius": 0.1, "spokes": 8}, {"radius": "x", "spokes": 8}]}, "Wheel .radius: expected a finite"),
        ({"wheels": [{"radius": 0.1}]}, "missing spokes"),
        ({"wheels": [3]}, "settings of a Wheel"),
        ({"horn": 1, "saddle": 2}, "expected no other settings than name, wheels, .* got 'horn', 'saddle'"),
    ],
)
def test_other_values_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_settings(Bike, {**WHOLE, **changes})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_missing_settings_are_named() -> None:
    some = {name: value for name, value in WHOLE.items() if name not in ("gears", "length")}
    with pytest.raises(ValueError, match="expected a value for every setting, missing gears, length"):
        check_settings(Bike, some)
    check_settings(Bike, some, complete=False)
    with pytest.raises(ValueError, match="missing name"):
        check_settings(Bike, {"wheels": []}, complete=False)
    with pytest.raises(ValueError, match=r"expected an object with a value for each setting, got \[\]"):
        check_settings(Bike, [])


def test_annotations_that_cannot_be_looked_up_are_not_checked() -> None:
    @dataclass
    class Local:
        pass

    @dataclass
    class Odd:
        thing: Local

    check_settings(Odd, {"thing": 1})
    with pytest.raises(ValueError, match="'other'"):
        check_settings(Odd, {"thing": 1, "other": 2})
