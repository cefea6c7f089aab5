# Each target installs what it needs; a fresh machine needs only Python 3.10 or newer with venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/train,dev.stamp# both extras: with dev alone, pip resolves the torch version that torchaudio needs too late

.DEFAULT_GOAL := help
# Tests start Python many times: without bytecode, each process would compile every module again
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test faults fuzz gpu notebook check docs clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

demo: $(VENV)/train,evaluate.stamp ## train a vocoder with nine minutes of speech, and measure it; overrides: make demo ARGS="key=value"
	$(BIN)/wavenet-train recipe=demo $(ARGS)

test: $(DEV) ## run the tests; a subset: make test ARGS=tests/modules
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

faults: $(DEV) ## run the fault tests in full: kills, power cuts, full disks, lost processes (Linux, root for all of them)
	$(BIN)/python -m pytest tests/faults tests/cli/test_torchrun.py --full $(ARGS)

fuzz: $(DEV) ## read 200,000 damaged files of every kind (Linux, an hour); fewer: make fuzz ARGS="--count 20000"
	$(BIN)/python -m tests.faults.fuzz all $(ARGS)

notebook: $(DEV) ## make notebooks/quickstart.ipynb from examples/quickstart.py, without outputs
	$(BIN)/jupytext --to ipynb --set-kernel python3 --output notebooks/quickstart.ipynb examples/quickstart.py

gpu: $(DEV) ## on a machine with a GPU: its tests, parity and speed in under ten minutes, to gpu.json
	$(BIN)/python -m tests.gpu.run $(ARGS)

check: $(DEV) ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/train,dev,docs.stamp ## build the documentation site, site/index.html; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict $(ARGS)

clean: ## remove what make created, with the environment; keep runs/ and prepared/
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/%.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check --editable '.[$*]'
	touch $@

$(BIN)/pip:
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'Creating the environment needs venv: on Debian and Ubuntu "apt install python3-venv",' \
			'or use another Python: make PYTHON=python3.12' >&2; exit 1; }
