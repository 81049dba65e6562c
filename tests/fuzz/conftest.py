"""How long Hypothesis tries: a minute in the suite, the same examples every time, and ten under `pytest -m slow`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

HERE = Path(__file__).parent
# Nothing is remembered from run to run. What Hypothesis caches all the same does not belong in the repository.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "grasp-agent-hypothesis")
# Planning takes its time: neither a slow example nor slowly drawn ones tell of a mistake.
COMMON = settings(database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# To shrink what fails takes minutes, since every try plans: that is left to the long run.
settings.register_profile("suite", COMMON, derandomize=True, max_examples=100, phases=[Phase.explicit, Phase.generate])
settings.register_profile("slow", COMMON, max_examples=1200, print_blob=True)


def _slow(config: pytest.Config) -> bool:
    return str(config.option.markexpr) == "slow"


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if _slow(config) else "suite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`pytest -m slow` runs these tests too, longer."""
    if _slow(config):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.slow)
