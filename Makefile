# Everything is done in .venv, which is made when it is missing and brought up to date when its pins
# change. Needs make and Python 3.11 or later, nothing else: nox and uv are installed in .venv-tools.
# `make help` lists the targets.

PYTHON ?= python3
PYTHONS ?=
ARGS ?=
RUN := .venv/bin/python -m
NOX := PYTHONS="$(PYTHONS)" .venv-tools/bin/python -m nox

# Whoever exports it has each process of the tests compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env tools demo demo-agents demo-postgres soak test test-fast sweep e2e e2e-pulumi browser pooler check lint types imports hygiene format bench bench-aws profile lock clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

env: ## The environment that the other targets use, .venv
	@$(PYTHON) -m tools.env

tools:
	@$(PYTHON) -m tools.env tools

demo: env ## Run the example
	@$(RUN) example

demo-agents: env ## An agent that is killed while it speaks, waits three days for a person, and finishes
	@$(RUN) example.agents

demo-postgres: env ## Four workers on one Postgres database, one of which is killed
	@$(RUN) example.postgres

soak: env ## 10,000 executions over 8 processes, one of which is killed every second; ARGS=--help
	@$(RUN) tools.soak $(ARGS)

test: tools ## The test suite on every Python found; PYTHONS="3.11 3.12" restricts, ARGS go to pytest
	@$(NOX) --session test -- $(ARGS); status=$$?; $(RUN) tests.left_out; exit $$status

test-fast: env ## The test suite on one Python; ARGS="-k retry -x" goes to pytest
	@$(RUN) pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal $(ARGS)

sweep: env ## All that the sweeps have go wrong, of which make test runs a part; ARGS go to pytest
	@SWEEP=all $(RUN) pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal tests/laws tests/aws tests/faults $(ARGS)

e2e: env ## What is deployed to AWS on loopback, end to end (make test has it too)
	@$(RUN) pytest --numprocesses=2 --dist=worksteal --durations=10 tests/e2e $(ARGS)

e2e-pulumi: env ## The deployment by Pulumi's own engine, which Go builds once (make test has it too)
	@$(RUN) tests.pulumi.e2e.build
	@$(RUN) pytest --numprocesses=2 --dist=worksteal --durations=10 tests/pulumi/e2e $(ARGS)

browser: ## Chromium, which tests drive, from Debian's packages; only as root, and where there is none
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }

pooler: ## PgBouncer, which tests put before Postgres, from Debian's packages; only as root, and where there is none
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends pgbouncer; }

check: lint types imports hygiene ## All that is checked without running the code

lint: env ## Style and formatting (ruff)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: env ## Types (pyright: strict in the library, basic in the example and the tools)
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(RUN) pyright --pythonpath .venv/bin/python

imports: env ## The direction of imports (import-linter)
	@.venv/bin/lint-imports --no-cache --no-logo

hygiene: env ## No trace of a machine in any file
	@.venv/bin/python tools/hygiene.py

format: env ## Let ruff fix and format
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: ## Measure beside the peers, each in its own environment; ARGS=--help, ARGS=--quick
	@$(PYTHON) -m benchmarks $(ARGS)

bench-aws: env ## Measure on AWS on loopback, beside a chain of functions without an engine
	@$(RUN) tests.e2e.measure

profile: env ## What one step costs: calls and microseconds by function; ARGS="--async --top 100"
	@$(RUN) tools.step_profile $(ARGS)

lock: tools ## Pin the newest versions of what pyproject.toml asks for
	@$(NOX) --session lock

clean: ## Remove all that is not in git: environments, caches, builds
	@rm -rf .venv .venv-* .nox .mini-workflow build dist .hypothesis .ruff_cache .import_linter_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
