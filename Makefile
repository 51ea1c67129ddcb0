# make demo: segment a real brain MRI with uncertainty, into demo/
# make docs: the documentation as HTML, into build/docs
# make test: what guards every change, in a few minutes; needs nothing but the checkout
# make test-all: every test, as CI does; needs the full data (Testing/fetch_data.py)
# make test-newest: the unit tests that need no torch, on the newest Python that is found
# make test-instruction-sets: what other machines computed, as processors without AVX-512 and AVX2 compute it
# make test-slicer SLICER=/path/to/Slicer: the panel's tests and the workflows in that Slicer; ALL=1: the long ones too
# make heart ACDC=FOLDER: train the model of the heart on your copy of ACDC (no commercial use), into models/acdc; hours
# make dist: wheel and source archive, checked and tried in an empty environment, into dist/
# make test-first-installation SLICER=... WHEELS=FOLDER: in a copy of that Slicer, from wheels, without a network
# make pictures SLICER=...: the pictures of README and docs, taken in that Slicer
# make coverage: every test, and which lines of the product they and their child processes run
# Each makes .venv when missing and installs what it needs.

VENV := .venv
# The oldest first: what runs there is used by the others too.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)
NEWEST ?= $(shell for p in python3.14 python3.13 python3.12; do $$p -c 'import ensurepip' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin

.PHONY: demo test test-all test-side-by-side test-serial test-full-data test-newest test-without-torch \
	test-instruction-sets test-slicer test-first-installation pictures coverage heart docs dist lint system-libraries clean

demo: $(VENV)/.desktop
	$(BIN)/segwithu demo --output demo

# A file of tests stays with one process, so that what it makes is made once; Testing/conftest.py puts files with slow
# tests first, so that the processes end together. What measures memory, or kills at moments that depend on speed, comes
# after, alone.
PYTEST := $(BIN)/python -m pytest --durations=10
WORKERS ?= 2
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Only files that have such tests are read: reading all takes 25 s.
SERIAL_FILES := $$(grep -rl --include="test_*.py" "mark\.serial" Testing)
FULL_DATA_FILES := $$(grep -rl --include="test_*.py" "full_data\|reference_head" Testing)
OTHER_MACHINE_FILES := $$(grep -rl --include="test_*.py" "mark\.other_machine" Testing)
QUICK := not slow and not serial and not full_data

# In two parts: a process that has read all files holds 0.9 GB before its first test.
test: $(VENV)/.test system-libraries
	@status=0; \
	$(PYTEST) $(SIDE_BY_SIDE) -m "$(QUICK)" Testing/unit || status=$$?; \
	$(PYTEST) $(SIDE_BY_SIDE) -m "$(QUICK)" --ignore=Testing/unit || status=$$?; \
	$(PYTEST) -m "serial and not slow and not full_data" $(SERIAL_FILES) || status=$$?; \
	echo "$$(cat Testing/in_slicer/test_*.py | grep -c "^def test_") tests of the panel need a Slicer: make test-slicer SLICER=FILE"; \
	exit $$status

test-all:
	@status=0; \
	$(MAKE) --no-print-directory test-side-by-side || status=$$?; \
	$(MAKE) --no-print-directory test-serial || status=$$?; \
	$(MAKE) --no-print-directory test-full-data || status=$$?; \
	exit $$status

test-side-by-side: $(VENV)/.test system-libraries
	$(PYTEST) $(SIDE_BY_SIDE) -m "not serial and not full_data"

test-serial: $(VENV)/.test system-libraries
	$(PYTEST) -m "serial and not full_data" $(SERIAL_FILES)

# None of these is `serial`.
test-full-data: $(VENV)/.test system-libraries
	$(PYTEST) $(SIDE_BY_SIDE) -m full_data $(FULL_DATA_FILES)

# The environment is its own, and small: torch for one more Python is a download of 3 GB. Files that need it are skipped,
# which CI allows here.
test-newest:
	@if [ -n "$(NEWEST)" ]; then $(MAKE) --no-print-directory test-without-torch VENV=build/newest PYTHON="$(NEWEST)"; \
	else echo "NO NEWER PYTHON: nothing was tested on one (python3.12, python3.13, python3.14)"; fi

test-without-torch: $(VENV)/.quick
	CI= $(BIN)/python -m pytest -m "$(QUICK)" Testing/unit

# oneDNN (OpenVINO and torch), ATen and MKL are kept from newer instructions. AVX has no FMA: it rounds otherwise.
test-instruction-sets: $(VENV)/.test
	@status=0; \
	for set in "AVX2 avx2 AVX2" "AVX default SSE4_2"; do \
		echo "instruction sets of oneDNN, ATen and MKL: $$set"; \
		set -- $$set; export ONEDNN_MAX_CPU_ISA=$$1 ATEN_CPU_CAPABILITY=$$2 MKL_ENABLE_INSTRUCTIONS=$$3; \
		$(BIN)/python -m pytest -m other_machine $(OTHER_MACHINE_FILES) || status=$$?; \
	done; \
	exit $$status

# Installs nothing, and needs a display (Xvfb will do). The tests run in one process of Slicer, with settings of their own;
# an official Slicer takes pytest from $(VENV), or from the site-packages folder that SEGWITHU_PYTEST names.
# TESTS: files and options of pytest.
PYTEST_FOLDER = $(shell $(BIN)/python -c "import pytest; print(__import__('os').path.dirname(pytest.__path__[0]))")
IN_SLICER = "$(SLICER)" --no-splash --testing --additional-module-paths "$(CURDIR)/SegWithUSlicer"
test-slicer:
	@test -x "$(SLICER)" || { echo "Name a 3D Slicer of 5.10 or newer: make test-slicer SLICER=/path/to/Slicer"; exit 1; }
	@rm -rf build/test-slicer/settings
	@status=0; \
	XDG_CONFIG_HOME="$(CURDIR)/build/test-slicer/settings" SEGWITHU_TESTS="$(TESTS)" \
		SEGWITHU_PYTEST="$${SEGWITHU_PYTEST:-$(PYTEST_FOLDER)}" \
		$(IN_SLICER) --python-script "$(CURDIR)/Testing/in_slicer/run_pytest.py" || \
		{ status=$$?; echo "The tests of the panel failed in this Slicer: see above."; }; \
	$(if $(TESTS),,$(IN_SLICER) --python-script "$(CURDIR)/Testing/real/run_workflows.py" \
		--output "$(CURDIR)/build/test-slicer" $(if $(ALL),--all) || \
		{ status=$$?; echo "Workflows failed, or Slicer ended (build/test-slicer/hang.txt says where it stood)."; }; \
	echo "open build/test-slicer/report.html";) \
	if [ $$status = 0 ]; then echo "All passed in this Slicer."; else echo "test-slicer failed."; fi; \
	exit $$status

test-first-installation: $(BIN)/python
	$(BIN)/python Testing/real/first_installation.py --slicer "$(SLICER)" --wheels "$(WHEELS)" --output build/first-installation

pictures:
	$(IN_SLICER) --python-script "$(CURDIR)/Testing/real/run_workflows.py" --only documentation_pictures \
		--output "$(CURDIR)/build/pictures"
	cd build/pictures && cp step?.png wide.png panel.png views.png cases.png models.png "$(CURDIR)/Resources/Screenshots"

# The count stays beside a failed test: a killed child loses its own.
coverage: $(VENV)/.test system-libraries
	$(BIN)/python -m coverage erase
	-$(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE) -m "not serial"
	-$(BIN)/python -m coverage run -m pytest -m serial $(SERIAL_FILES)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered

# Resumed where it stopped by the same command.
heart: $(VENV)/.test
	$(BIN)/python Testing/Benchmarks/acdc/heart_data.py "$(ACDC)" build/heart
	$(BIN)/segwithu train build/heart/split.csv --recipe Testing/Benchmarks/acdc/recipes/heart.json --output models/acdc

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

# The wheel is tried as a stranger has it: in an empty environment, outside of the checkout.
dist: $(VENV)/.test
	rm -rf dist build/dist-trial
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/dist-trial
	build/dist-trial/bin/python -m pip install --quiet dist/*.whl
	cd build && dist-trial/bin/segwithu models list && dist-trial/bin/segwithu models verify hippocampus && \
		dist-trial/bin/segwithu demo --output dist-trial/demo
	@echo "dist/ holds what RELEASING.md publishes"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed: install one, or name it: make PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.desktop: $(BIN)/python pyproject.toml
	@echo "installing packages into $(VENV), some minutes the first time"
	$(BIN)/python -m pip install --quiet -e ".[desktop]"
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@ $(VENV)/.desktop

$(VENV)/.quick: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[quick]"
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	@touch $@

system-libraries:
	@sh Testing/system_libraries.sh

clean:
	rm -rf $(VENV) demo build dist
