# permdoctor: what a newcomer and a machine type.
#
#   make demo    an own environment, and the embedded demonstration (needs no engine)
#   make test    everything the tests need, then the tests
#   make test-slow  the tests that take minutes each, and are not among these
#   make lint    style, types and the architecture only
#   make bench   the benchmarks
#   make clean   remove what these made
#
# PYTHON=python3.12 chooses another interpreter, WORKERS=0 runs the tests one after the other.

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
SOURCES := $(shell find permdoctor -name '*.py' -o -name '*.md' -o -name '*.json' 2>/dev/null)
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

# What the tests start or mount.  As root on Debian or Ubuntu the missing ones are installed.
PACKAGES := docker.io busybox-static acl attr uidmap e2fsprogs xfsprogs btrfs-progs bindfs \
	slirp4netns rootlesskit podman iproute2 util-linux mount \
	prometheus prometheus-alertmanager systemd-container mmdebstrap

.PHONY: demo test test-slow lint bench clean packages
.DEFAULT_GOAL := test

demo: $(STAMPS)/installed
	@$(BIN)/permdoctor demo

# The long ones: storms, kills, a hundred containers.
test-slow: $(STAMPS)/test packages
	@$(BIN)/python -m pytest -n 0 -m slow $(PYTEST_ARGS)

test: $(STAMPS)/test packages
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(STAMPS)/test
	@$(BIN)/python -m pytest -q tests/test_lint.py tests/test_architecture.py

bench: $(STAMPS)/test
	@for each in check deep_scan repair serve; do \
		echo "== $$each"; $(BIN)/python -m "benchmarks.$$each" || exit 1; done

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is not there; make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "permdoctor needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
		"make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

# A copy of the sources as they are now; after `make test` they are used in place.
$(STAMPS)/installed: pyproject.toml constraints.txt $(SOURCES) | $(STAMPS)/venv
	@test -e $(STAMPS)/test || $(INSTALL) .
	@touch $@

$(STAMPS)/test: pyproject.toml constraints.txt | $(STAMPS)/venv
	@$(INSTALL) -e '.[test]'
	@touch $@

# Never fails: a test that lacks a program skips and says which.
packages:
	@command -v dpkg-query >/dev/null || exit 0; \
	missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Abbrev}' "$$p" 2>/dev/null | grep -q '^ii' || echo "$$p"; \
	done); \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "not root: tests that need these will be skipped:" $$missing >&2; exit 0; \
	fi; \
	echo "installing for the tests:" $$missing >&2; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt="apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20"; \
	{ $$apt update && $$apt install --no-install-recommends -y $$missing; } >/dev/null 2>&1 || \
	for p in $$missing; do \
		$$apt install --no-install-recommends -y "$$p" >/dev/null 2>&1 || \
			echo "could not install $$p: the tests that need it will be skipped" >&2; \
	done
