# make demo: segment a real brain MRI with uncertainty, into demo/
# make test: the whole test suite
# make docs: the documentation as HTML, into build/docs
# Each makes .venv when missing and installs what it needs.

VENV := .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin

.PHONY: demo test docs lint system-libraries clean

demo: $(VENV)/.desktop
	$(BIN)/segwithu demo --output demo

test: $(VENV)/.test system-libraries
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.desktop: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[desktop]"
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@ $(VENV)/.desktop

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	@touch $@

system-libraries:
	@sh Testing/system_libraries.sh

clean:
	rm -rf $(VENV) demo build
