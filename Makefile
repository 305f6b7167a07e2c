# Two commands for newcomers: `make demo` and `make test`. Everything happens in .venv/, nothing outside this folder,
# except that `make test` may install openssh-server, dropbear and a few shells through the system's package manager, and
# `make test-zoo` other servers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.PHONY: help demo test test-zoo servers-page test-versions check format build bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

demo: $(VENV)/.demo  ## play a real playbook, both directions, against an SSH server on this machine
	$(BIN)/runner demo

test: $(VENV)/.test  ## set everything up and run all tests
	@.ci/ensure-servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# One worker for each server, so that each is started once.
test-zoo: $(VENV)/.test $(VENV)/.zoo  ## run the checks on nine other SFTP servers, which it installs
	@.ci/ensure-servers
	@.ci/ensure-zoo $(BIN)/python
	$(BIN)/python -m pytest -m zoo -n $(WORKERS) --dist loadgroup tests/zoo $(PYTEST_ARGS)

servers-page: $(VENV)/.test  ## write docs/servers.md from the zoo's table
	$(BIN)/python -m tests.zoo.page

test-versions:  ## run the tests on every Python from 3.11 on, with the lowest and the newest dependencies
	@.ci/ensure-servers
	@.ci/test-versions $(PYTEST_ARGS)

check: $(VENV)/.check  ## linter, formatter, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.check  ## let the formatter and the linter mend what they can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(VENV)/.check  ## wheel and source distribution, into dist/
	$(BIN)/python -m build

bench: $(VENV)-bench/.runner  ## measure against scp, sftp, rsync, rclone, lftp and Ansible: docs/performance.md
	@.ci/ensure-servers
	@.ci/ensure-peers $(PYTHON) $(VENV)-ansible
	$(VENV)-bench/bin/python -m tests.bench $(BENCH_ARGS)

clean:  ## remove everything that was made
	rm -rf $(VENV) $(VENV)-bench $(VENV)-ansible $(VENV)-versions build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python $(VENV)-bench/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/ensure-venv $(PYTHON)
	$(PYTHON) -m venv $(@:/bin/python=)

# One stamp for each set of extras; a changed setup.cfg installs anew.
$(VENV)/.%: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/.check: $(VENV)/.test

# What users get: built from a copy, because a folder build/ left over from another build would be taken into the wheel.
$(VENV)-bench/.runner: setup.cfg $(shell find runner schema playbooks -name '*.py' -o -name '*.json' -o -name '*.yaml') \
		| $(VENV)-bench/bin/python
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT \
		&& cp -R pyproject.toml setup.cfg README.md LICENSE runner schema playbooks "$$copy" \
		&& $(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check "$$copy"
	@touch $@
