# The commands of this project; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test oldest nightly mutants check bench format ui notebooks clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# Pip's own words go to a log; meanwhile a line every few seconds says what it is at.
# $$$$ is this shell: once it is gone, by Ctrl-C too, so is what speaks beside it.
define INSTALL
log=$(VENV)/pip.log; : > $$log; \
( while sleep 3 && kill -0 $$$$ 2>/dev/null; do \
	count=$$(ls -d $(VENV)/lib/python*/site-packages/*.dist-info 2>/dev/null | wc -l); \
	at=$$(grep -oE '^ *(Collecting|Downloading|Building|Installing) [^ ;<>=!~(]+' $$log | tail -n 1); \
	echo "  $$count packages installed; pip:" $$at; \
done ) & beside=$$!; \
$(PIP) --editable $(1) >> $$log 2>&1; failed=$$?; \
kill $$beside; \
test $$failed = 0 || { tail -n 20 $$log; echo "All of it is in $$log."; exit $$failed; }
endef
# What the code of this project does in its virtual environment, nobody reports.
export DO_NOT_TRACK := 1

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/run ## Simulate a company, then ingest, build, test, publish, summarise
	@$(BIN)/status-engine demo

test: $(VENV)/dev ## Run all tests
	@$(BIN)/python -m pytest

oldest: $(VENV)/dev ## Run them on Debian's PostgreSQL 15, the oldest that is supported
	@$(BIN)/python -m pytest --postgresql=/usr/lib/postgresql/15/bin

nightly: $(VENV)/dev ## Run more random stays and histories, whole stories, a kill in each model, a soak
	@NIGHTLY=1 $(BIN)/python -m pytest \
		$$(grep -rlE --include='test_*.py' 'from nights import|mark\.nightly' tests)

mutants: $(VENV)/dev ## Take guards away one by one and list those no test misses; ONLY=S12 for one rule
	@$(BIN)/python tests/mutants.py $(ONLY)

check: $(VENV)/dev ## Lint, types, SQL style, one clock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 2 dbt/models dbt/tests
	@! grep -rniE '\b(now\(\)|current_timestamp|current_date|clock_timestamp|localtimestamp|between)' \
		dbt --include='*.sql' --exclude-dir=target | grep -v '^dbt/macros/clock.sql:' \
		|| { echo 'The clock is read in dbt/macros/clock.sql only (S15); no between on time.'; exit 1; }

bench: $(VENV)/dev ## Measure every figure of the README against its peer; QUICK=--quick for a tenth
	@failed=0; for name in ingest deadlines serving analytics; do $(BIN)/python -m benchmarks.$$name $(QUICK) || failed=1; done; exit $$failed

format: $(VENV)/dev ## Format Python and SQL
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --processes 2 dbt/models dbt/tests

ui: $(VENV)/run ## Serve the Dagster UI on http://127.0.0.1:3000, the schedule running
	@$(BIN)/status-engine ui

notebooks: $(VENV)/run ## Serve the five notebooks on http://127.0.0.1:2718
	@$(BIN)/marimo --log-level ERROR run --no-sandbox --host 127.0.0.1 --port 2718 notebooks

clean: ## Stop the embedded PostgreSQL; delete its data, the files and .venv
	@if [ -x $(BIN)/status-engine ]; then $(BIN)/status-engine stop --delete-data; fi
	rm -rf .status-engine $(VENV) dbt/target dbt/logs *.egg-info

$(VENV)/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo 'Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ...'; exit 1; }
	@echo 'installing into $(VENV), a minute or so ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call INSTALL,.)
	@touch $@

$(VENV)/dev: $(VENV)/run
	@echo 'installing the tools of make test and make check ...'
	@$(call INSTALL,'.[dev]')
	@touch $@
