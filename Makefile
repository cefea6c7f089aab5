# Each target sets up what it needs, on a fresh machine too: Python 3.10 or newer with venv is enough.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/train,dev.stamp# both named: from dev alone pip sees too late which torch suits torchaudio

.DEFAULT_GOAL := help
.PHONY: help demo test faults check clean

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

demo: $(VENV)/train.stamp ## train on nine minutes of speech; more on the line: make demo ARGS="key=value"
	$(BIN)/wavenet-train recipe=demo $(ARGS)

test: $(DEV) ## run the tests; a part of them: make test ARGS=tests/modules
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

faults: $(DEV) ## kill, cut and fill up training in every way; as root for all of it, Linux
	$(BIN)/python -m pytest tests/faults tests/cli/test_torchrun.py --full $(ARGS)

check: $(DEV) ## check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## remove what make built, the environment too; runs/ and prepared/ stay
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/%.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check --editable '.[$*]'
	touch $@

$(BIN)/pip:
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'No environment without venv: on Debian and Ubuntu "apt install python3-venv",' \
			'or name another Python: make PYTHON=python3.12' >&2; exit 1; }
