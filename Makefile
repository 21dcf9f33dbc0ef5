# Everything a contributor types. `make` alone lists the targets; each sets up what it needs.
# Written for GNU Make 3.81 (macOS) and later and any /bin/sh.

PYTHON ?= python3
ARGS ?=
NAME ?=
# One process per core with one thread each: more threads than cores wait for one another.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Holds the folder that the environment was made in.
MADE_IN := $(VENV)/made-in
# Touched after the last step of an installation, and only then.
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-fast test-slow test-faults slurm-up test-slurm notebooks rename \
    groups example docs lint format lock benchmark benchmark-gpu dashboard clean FORCE

help: ## List the targets
	@echo 'usage: make TARGET [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Create .venv with the locked dependencies and this package, editable
	@echo "$(VENV) is ready: `$(BIN)/python --version`"

train: $(STAMP) ## Train, e.g. make train ARGS="model=unet_dilated"
	@$(BIN)/python train.py $(ARGS)

test: $(STAMP) ## Run all tests
	@$(PYTEST) $(ARGS)

test-fast: $(STAMP) ## Run the quick tests: no process, no training of more than a second
	@$(PYTEST) -m "not slow and not faults and not slurm" $(ARGS)

test-slow: $(STAMP) ## Run the others: processes, training, exports
	@$(PYTEST) -m slow $(ARGS)

test-faults: $(STAMP) ## Kill runs at many points, resume them, compare bit for bit
	@$(PYTEST) -m faults $(ARGS)

slurm-up: ## Install and start a Slurm of two nodes (Debian, as root)
	@bash tests/slurm/start.sh

test-slurm: $(STAMP) ## Run the tests that need a Slurm
	@$(PIP) install --editable '.[slurm]'
	@$(BIN)/python -m pytest -m slurm tests/slurm $(ARGS)

# One thread, so that the numbers do not depend on the number of cores.
notebooks: $(STAMP) ## Execute the notebooks, in place (ARGS=FILE for one)
	@OMP_NUM_THREADS=1 $(BIN)/python notebooks/execute.py $(ARGS)

docs: $(STAMP) ## Build the guides, and the API from docstrings, as pages in site/
	@$(PIP) install --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

lint: $(STAMP) ## Check style, format and types; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Format the code and repair what ruff can repair
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# Pins stay where they can; ARGS=--upgrade moves all of them. The result names no package index.
# Extras are kept: pip looks at the newest version of NAME[EXTRA] where only NAME is pinned, and stops.
lock: $(MADE_IN) ## Solve pyproject.toml into requirements.lock (ARGS=--upgrade for the newest)
	@test -x $(BIN)/uv || $(PIP) install 'uv>=0.9'
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-strip-extras \
	    --custom-compile-command 'make lock' --quiet $(ARGS) --output-file requirements.lock

benchmark: $(STAMP) ## Measure speed beside the lesson's loop and the best one (ARGS="--quick")
	@$(BIN)/python benchmarks/benchmark.py $(ARGS)

benchmark-gpu: $(STAMP) ## The same on a GPU, at 512 and 572 pixels
	@$(BIN)/python benchmarks/benchmark.py --device cuda $(ARGS)

dashboard: $(STAMP) ## Show the runs in logs/ with TensorBoard
	@$(BIN)/tensorboard --logdir logs $(ARGS)

rename: $(STAMP) ## Give the package a name of your own: make rename NAME=mystudy
	@$(BIN)/python docs/rename.py "$(NAME)"
	@$(PIP) uninstall --yes liverseg
	@$(MAKE) --no-print-directory setup

groups: $(STAMP) ## Write the table of config groups into README.md
	@$(BIN)/python docs/write_groups.py

example: $(STAMP) ## Draw the README's picture from the newest run (ARGS=RUN from another)
	@$(BIN)/python docs/draw_example.py $(ARGS)

clean: ## Remove .venv and caches; logs and data stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache __pycache__ .coverage htmlcov
	@rm -rf build dist site src/*.egg-info
	@for folder in src tests benchmarks configs notebooks; do \
	    if [ -d $$folder ]; then find $$folder -name __pycache__ -type d -prune -exec rm -rf {} +; fi; \
	done

# An environment does not survive a move or a copy of its folder: its scripts and the editable
# package go on pointing at the old place. It is then made again, as after an upgrade of Python.
ifneq ($(shell test -x $(BIN)/python && cat $(MADE_IN) 2>/dev/null),$(CURDIR))
$(MADE_IN): FORCE
endif

$(MADE_IN):
	@command -v $(firstword $(PYTHON)) >/dev/null 2>&1 || { \
	    echo "There is no $(PYTHON) here; liverseg needs Python 3.11 or newer," \
	        "for example: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is `$(PYTHON) --version 2>&1`; liverseg needs Python 3.11 or newer," \
	        "for example: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' >/dev/null 2>&1 || { \
	    echo "$(PYTHON) cannot make virtual environments (no ensurepip or venv module);" \
	        "on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@if [ -L $(VENV) ]; then rm $(VENV); fi # --clear would empty the environment that it leads to
	@$(PYTHON) -m venv --clear $(VENV)
	@echo '$(CURDIR)' > $@

$(STAMP): $(MADE_IN) requirements.lock pyproject.toml
	@rm -f $@
	@echo "Installing the locked dependencies into $(VENV)" \
	    "(about 6 GB, a few minutes the first time)"
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
