# Everything a developer does here, one word each. `make` alone lists the words.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
DEV := $(VENV)/.installed-dev
RUN := $(VENV)/.installed-run
CODE := envelope gateway keyservice thirdparty benchmarks tests

# The first of these that is new enough; override with `make PYTHON=... test`.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3; do \
	if $$p -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$p; break; fi; done)

PIP := $(PY) -m pip --disable-pip-version-check --quiet

.PHONY: help
help: ## List these words
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.PHONY: run
run: $(if $(wildcard $(DEV)),$(DEV),$(RUN)) ## Start a whole Sealgate on this machine and try it
	@$(PY) -m gateway dev

# Two runs: JOBS processes side by side, each with servers of its own, then what must be alone on the
# machine. Files are handed out as collected, so that none of the long ones is the last. Both runs
# happen even if the first fails; figures go to junit files where JUNIT names a folder.
JOBS ?= 2
FIGURES = $(if $(JUNIT),--junitxml=$(JUNIT)/$(1).xml)

.PHONY: test
test: $(DEV) ## Run unit to service tests, on real Vault, S3 and PostgreSQL
	@$(PY) -m tests.servers.install
	@failed=0; \
	$(PY) -m pytest -m "not soak and not alone" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(call FIGURES,test) || failed=1; \
	$(PY) -m pytest -m "not soak and alone" $(call FIGURES,alone) || failed=1; \
	exit $$failed

.PHONY: check
check: $(DEV) ## Check format, lint, types, layers and documents
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy $(CODE)
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m pytest -q tests/docs

.PHONY: format
format: $(DEV) ## Format the code and mend what ruff can mend
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: bench
bench: $(DEV) ## Measure ratios to a plain proxy and direct S3 (QUICK=1: two minutes)
	@$(PY) -m tests.servers.install
	@$(PY) -m benchmarks $(if $(QUICK),--quick)
	@$(PY) -m benchmarks.rotation --sizes $(if $(QUICK),2000,10000)

.PHONY: bench-beside
bench-beside: $(DEV) ## Measure requests beside a rotation, a back-fill and a scrub (ten minutes)
	@$(PY) -m tests.servers.install
	@for on in "" --postgres; do \
		$(PY) -m benchmarks.beside $$on; \
		$(PY) -m benchmarks.rotation --sizes 10000 --foreground $$on --json benchmarks/results/rotation$$on.json; \
	done

.PHONY: bench-million
bench-million: $(DEV) ## Rotate a million envelopes on SQLite (an hour or two)
	@$(PY) -m tests.servers.install
	@$(PY) -m benchmarks.rotation --sizes 10000 100000 --million

.PHONY: soak
soak: $(DEV) ## Run the long proofs (5 GiB, 200 kills)
	@$(PY) -m tests.servers.install
	@$(PY) -m pytest -m soak --timeout=7200

.PHONY: lock
lock: ## Pin all dependencies again, with hashes (needs uv)
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--quiet pyproject.toml -o requirements/run.txt
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--quiet pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt

.PHONY: clean
clean: ## Remove the environment and all caches of this clone
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "sealgate needs Python 3.11 or newer: neither python3.11 nor python3 is one" >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "cannot make $(VENV): on Debian and Ubuntu, install python3-venv" >&2; exit 1; }

# A stamp is newer than what it was installed from, so that a warm run does nothing.
$(DEV): requirements/dev.txt pyproject.toml | $(PY)
	@echo "installing the development environment into $(VENV) (a minute or two)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Running needs no build backend: the packages are put on the path as they stand.
$(RUN): requirements/run.txt | $(PY)
	@echo "installing what Sealgate needs to run into $(VENV) (a minute or two)"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@echo "$(CURDIR)" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sealgate-tree.pth"
	@touch $@
