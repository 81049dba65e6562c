"""The code of docs/vector_environments.md runs as it is printed."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grasp_agent.core.types import Budget

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "vector_environments.md"
SETUP, SAME_STEP, NEXT_STEP = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", [SAME_STEP, NEXT_STEP], ids=["same step", "next step"])
def test_the_guides_flags_are_right(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(SETUP, namespace)
    goals: list[np.ndarray] = []
    began: list[int] = []
    agent_class = namespace["GRASPAgent"]
    predict, load = agent_class.predict, agent_class.from_pretrained

    def noting(agent: Any, observations: Any, state: Any, episode_start: Any) -> Any:
        goals.append(observations["goal"].copy())  # every episode has another one
        new = [len(goals) == 1 or not np.array_equal(goals[-2][row], goals[-1][row]) for row in range(2)]
        assert episode_start.tolist() == new
        began.append(sum(new))
        return predict(agent, observations, state, episode_start)

    monkeypatch.setattr(agent_class, "predict", noting)
    monkeypatch.setattr(agent_class, "from_pretrained", partial(load, budget=Budget(iterations=1)))  # quickly
    exec(code, namespace)
    assert namespace["finished"] == 2  # both environments have played an episode to its end
    assert sum(began) == 4  # and have begun another
