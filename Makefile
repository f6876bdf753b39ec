# Everything here works on a bare checkout with Python >= 3.11 and make: the first target that needs it makes
# .venv and installs the project with its development tools into it.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEWEST := python3.13 python3.12 python3.11
# the first interpreter that is new enough; `make PYTHON=/path/to/python3.12` chooses another
PYTHON ?= $(shell for python in python3 $(NEWEST); do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)

# mypy follows no import hooks: it finds the package through a link that has the package's name
TYPING := $(VENV)/typing
MYPY := MYPYPATH=$(TYPING) $(BIN)/mypy --strict
MYPY_TESTS := MYPYPATH=$(TYPING):. $(BIN)/mypy --strict --explicit-package-bases
PACKAGES := -p ostinato.patterns -p ostinato.state -p ostinato.cep -p ostinato.server
SOURCES := bench cep examples patterns server state tests

# processes that run tests; each compiles kernels that are not in the cache yet
JOBS ?= auto

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(STAMP) ## Find suspicious logins in a generated log of 200,000
	@$(BIN)/python examples/login/demo.py

.PHONY: test
test: $(STAMP) ## Run the tests, but for the long ones about faults
	$(BIN)/pytest -n $(JOBS) -m 'not faults'

.PHONY: test-faults
test-faults: $(STAMP) ## Kill, stop and starve jobs and what they depend on, and check their output (up to 15 minutes)
	$(BIN)/pytest -n $(JOBS) tests/faults tests/conformance/test_rescaling.py

.PHONY: check
check: lint format-check types layers ## Run what a change has to pass besides the tests

.PHONY: lint
lint: $(STAMP)
	@$(BIN)/ruff check $(SOURCES) || { echo 'lint: `make fix` mends what can be mended by itself'; exit 1; }

.PHONY: format-check
format-check: $(STAMP)
	@$(BIN)/ruff format --check $(SOURCES) || { echo 'format: `make fix` writes it as it should be'; exit 1; }

.PHONY: types
types: $(STAMP)
	@$(MYPY) $(PACKAGES) || { echo 'types: mend the annotations named above; `make types` looks again'; exit 1; }
	@$(MYPY) bench/*.py || { echo 'types: mend the annotations named above; `make types` looks again'; exit 1; }
	@$(MYPY_TESTS) tests examples || { echo 'types: mend the annotations named above; `make types` looks again'; exit 1; }

.PHONY: layers
layers: $(STAMP)
	@PYTHONPATH=$(TYPING) $(BIN)/lint-imports || { \
		echo 'layers: an import goes upward; docs/architecture.md says which package may import which'; exit 1; }

.PHONY: fix
fix: $(STAMP) ## Mend what lint and format can mend by themselves
	$(BIN)/ruff check --fix $(SOURCES) || true
	$(BIN)/ruff format $(SOURCES)

.PHONY: bench
bench: $(STAMP) ## Measure against hand-written loops, with state that survives, between topics, and the server (an hour)
	$(BIN)/python bench/run.py --memory --cold --parallel
	$(BIN)/python bench/lasting.py
	$(BIN)/python bench/topics.py
	$(BIN)/python bench/server.py

.PHONY: bench-quick
bench-quick: $(STAMP) ## The same with fewer events, once: rough figures
	$(BIN)/python bench/run.py --quick
	$(BIN)/python bench/lasting.py --quick
	$(BIN)/python bench/topics.py --quick
	$(BIN)/python bench/server.py --quick

.PHONY: install
install: $(STAMP) ## Make .venv and install into it; the other targets do so when they need it

$(STAMP): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'no Python >= 3.11 found; name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'installing into $(VENV), once; this takes a minute or two'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo 'venv failed; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@mkdir -p $(TYPING) && ln -sfn '$(CURDIR)' $(TYPING)/ostinato
	@touch $@

.PHONY: clean
clean: ## Remove what was made, the installation and generated data included
	rm -rf $(VENV) bench/data build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
