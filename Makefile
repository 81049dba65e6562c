# make demo | test | test-numeric | test-slow | attack | check | format | clean
PYTHON ?= python3
BIN := .venv/bin
# constraints.txt pins torch: without it pip would fetch the newest one, with gigabytes of GPU libraries.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Test processes at a time.
JOBS ?= 2
NUMERIC := core objectives planning models agent

.PHONY: demo test test-numeric test-slow attack check format clean
.DEFAULT_GOAL := demo

demo: .venv/.installed
	$(BIN)/grasp-agent demo

test: .venv/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS)

# The arithmetic of another machine: other vector instructions, and sums split between two threads.
test-numeric: .venv/.installed-dev
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 \
		$(BIN)/python -m pytest --threads 2 $(addprefix tests/,$(NUMERIC))

test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest -m slow

# Kills, full disks, damaged files, two runs at once, a soak: ten minutes, and a table of what held.
attack: .venv/.installed-dev
	$(BIN)/python -m pytest -m "slow or not slow" tests/attack

check: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Each stamp is written only after its installation has succeeded.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@
