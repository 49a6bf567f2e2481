# Each target does its own set-up into .venv; a machine needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: eval test lint types docs bench support clean
.DELETE_ON_ERROR:

eval: $(VENV)/installed  ## Decision Transformer on MuJoCo's Hopper, its cache pruned
	$(BIN)/transfer eval --model decision-transformer --env hopper

test: $(VENV)/installed-dev  ## the test suite
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers cannot follow the mapping of top-level folders in an editable installation, so they
# look at a plain one.
types: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pip install --quiet --no-deps --editable .

docs: $(VENV)/installed-dev  ## build/site/index.html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs build/site
	$(BIN)/transfer leaderboard --out build/site/leaderboard.html

bench: $(VENV)/installed  ## time and memory, side by side, on one core
	$(BIN)/python -m benchmarks

support: $(VENV)/installed  ## docs/reference/support.md: every family of transformers, exact or refused
	$(BIN)/python tests/families.py

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
