"""Settings shared by all tests."""

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=1, help="threads of torch, which add sums up in another order")


def pytest_configure(config: pytest.Config) -> None:
    # The tests' networks are tiny: one thread is faster than two sharing them.
    torch.set_num_threads(config.getoption("--threads"))
