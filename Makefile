# make demo   watch real work run on two nodes, on this machine
# make conformance  CPython's own tests of multiprocessing and joblib's of its backends, of ours
# make lecture  the programs of the lecture notes, on one host and on two, in a table
# make lecture-order  TIMES=100 runs of those that depend on order, while the machine is busy
# make test   every test that this machine can run; what is skipped is named with its reason
# make test-others  those of them that make coverage-cores and make coverage-processes do not run
# make coverage  which lines and branches the unit tests run, in every process: COVERAGE_TESTS=tests takes all
# make coverage-cores  the tests of the pure cores, which lines and branches they run, and the floor of each core
# make coverage-processes  the same of what has sockets, memory and processes, measured in children and nodes too
# make histories  10,000 operations on each kind of shared object while processes, broker and links fail
# make simulate  SEEDS=10000 simulated worlds in which everything goes wrong, from seed START=0
# make replay    what happens in one of them: SEED=17, and to one task of it: TASK=j0/3
# make fuzz   MESSAGES=200000 odd messages of every role at a broker that is killed now and then: SEED=7
# make kill-programs  RUNS=5 arrays of 10,000 programs whose client, broker and node are killed in the middle: SEED=3
# make check  style, types, imports, spelling, links, prose
# make docs   the documentation as a site, in out/site
# make audit  look for known faults in the pinned packages: asks the advisory database of PyPI
# make lock   pin every package anew, with hashes: UPGRADE=--upgrade takes the newest versions
# make bench  compare with other systems, in half an hour (bench-quick: two minutes)
# make bench-docs  put the last such run into docs/performance.md, with its chart
#
# The first run creates .venv and installs what is needed; Python 3.11 or newer is all it takes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PAGES = $(wildcard *.md docs/*.md deploy/*.md)
PYTEST_ARGS ?=
COVERAGE_TESTS ?= tests/unit
# The tests of what `tools/coverage-cores.toml` measures. They start no process.
CORE_TESTS = tests/unit/broker/coordination tests/unit/broker/core tests/unit/client/_session tests/unit/shared/coordination \
  tests/unit/shared/protocol tests/unit/worker/agent tests/unit/worker/core
CORE_SEEDS = 60
# The tests of what `tools/coverage-processes.toml` measures. They start brokers, nodes and pool children.
PROCESS_TESTS = tests/unit/broker/heartbeats tests/unit/broker/ports tests/unit/broker/test_loop.py tests/unit/broker/test_server.py \
  tests/unit/client/_code tests/unit/client/_results tests/unit/client/_submit tests/unit/client/_values \
  tests/unit/client/test_executor.py tests/unit/client/test_pool.py tests/unit/shared/payloads tests/unit/shared/programs \
  tests/unit/shared/security tests/unit/shared/shm tests/unit/shared/transport tests/unit/worker/child tests/unit/worker/host \
  tests/unit/worker/ipc tests/unit/worker/pool tests/unit/worker/test_node.py
TRACED_CORES = $(BIN)/coverage run --rcfile=tools/coverage-cores.toml -m
TRACED_PROCESSES = $(BIN)/coverage run --rcfile=tools/coverage-processes.toml -m
BENCH_ARGS ?=
SEEDS ?= 10000
OPERATIONS ?= 10000
START ?= 0
MESSAGES ?= 200000
RUNS ?= 5
BENCH_RUN ?= out/bench.json

.DEFAULT_GOAL := help
.PHONY: help demo lecture lecture-order conformance test test-others coverage coverage-cores coverage-processes histories simulate replay fuzz kill-programs check docs audit lock bench bench-quick bench-docs clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.installed-all
	@$(BIN)/python examples/demo.py

lecture: $(VENV)/.installed-test,check
	@$(BIN)/python -m tools.lecture

lecture-order: $(VENV)/.installed-test,check
	@$(BIN)/python -m tools.lecture.order $(or $(TIMES),100)

conformance: $(VENV)/.installed-test,check
	@cd tests && $(abspath $(BIN))/python -m harness.cpython.tests
	@cd tests && $(abspath $(BIN))/python -m harness.cpython.joblib_tests

test: $(VENV)/.installed-test,check
	@$(BIN)/pytest -n auto --dist loadgroup $(PYTEST_ARGS)

test-others: $(VENV)/.installed-test,check
	@$(BIN)/pytest -n auto --dist loadgroup $(addprefix --ignore=,$(CORE_TESTS) $(PROCESS_TESTS)) $(PYTEST_ARGS)

# A process that is killed while it writes its data leaves a torn file. `combine` names such files and leaves them
# where they are; what reads the data then would try again, and lose some.
coverage: $(VENV)/.installed-test,check
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/coverage run -m pytest -n auto --dist loadgroup $(COVERAGE_TESTS) $(PYTEST_ARGS)
	@$(BIN)/coverage combine
	@rm -f .coverage/data.*
	@$(BIN)/coverage report

coverage-cores: $(VENV)/.installed-test,check
	@rm -rf .coverage/cores && mkdir -p .coverage/cores
	@$(TRACED_CORES) pytest -n auto --dist loadgroup --hypothesis-seed=0 $(CORE_TESTS) $(PYTEST_ARGS)
	@PYTHONPATH=tests $(TRACED_CORES) simulation --seeds $(CORE_SEEDS)
	@PYTHONPATH=tests $(TRACED_CORES) simulation.coordination --seeds $(CORE_SEEDS)
	@$(BIN)/coverage combine --rcfile=tools/coverage-cores.toml --quiet
	@$(BIN)/coverage report --rcfile=tools/coverage-cores.toml
	@$(BIN)/python tools/coverage_floor.py cores

coverage-processes: $(VENV)/.installed-test,check
	@rm -rf .coverage/processes && mkdir -p .coverage/processes
	@$(TRACED_PROCESSES) pytest -n auto --dist loadgroup $(PROCESS_TESTS) $(PYTEST_ARGS)
	@$(BIN)/coverage combine --rcfile=tools/coverage-processes.toml --quiet
	@rm -f .coverage/processes/data.*
	@$(BIN)/coverage report --rcfile=tools/coverage-processes.toml
	@$(BIN)/python tools/coverage_floor.py processes

histories: $(VENV)/.installed-test,check
	@MANYHANDS_TEST_OPERATIONS=$(OPERATIONS) $(BIN)/pytest tests/chaos/coordination/test_histories.py $(PYTEST_ARGS)

simulate: $(VENV)/.installed-test,check
	@cd tests && $(abspath $(BIN))/python -m simulation --seeds $(SEEDS) --start $(START)
	@cd tests && $(abspath $(BIN))/python -m simulation.coordination --seeds $$(( $(SEEDS) / 10 )) --start $(START)

replay: $(VENV)/.installed-test,check
	@cd tests && $(abspath $(BIN))/python -m simulation --replay $(SEED) --task "$(TASK)"

fuzz: $(VENV)/.installed-test,check
	@cd tests && $(abspath $(BIN))/python -m fuzz --messages $(MESSAGES) $(if $(SEED),--seed $(SEED))

kill-programs: $(VENV)/.installed-test,check
	@cd tests && $(abspath $(BIN))/python -m killed_programs --runs $(RUNS) $(if $(SEED),--seed $(SEED))

check: $(VENV)/.installed-test,check
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "ruff format" && $(BIN)/ruff format --check .
	@echo "mypy" && $(BIN)/mypy
	@echo "imports" && { $(BIN)/lint-imports --no-cache --no-logo >$(VENV)/.imports || { cat $(VENV)/.imports; exit 1; }; }
	@$(BIN)/python tools/circles.py
	@echo "sizes" && $(BIN)/python tools/sizes.py
	@echo "codespell" && $(BIN)/codespell
	@echo "links" && $(BIN)/python tools/check_docs.py $(PAGES)
	@echo "names" && $(BIN)/python tools/check_names.py docs/architecture.md CONTRIBUTING.md
	@echo "prose" && $(BIN)/python tools/prose.py

docs: $(VENV)/.installed-docs
	@$(BIN)/python tools/docs_site.py

audit: $(VENV)/.installed-audit
	@for lock in deploy/requirements.lock deploy/build.lock tools/requirements.lock tools/audit.lock tools/docs.lock; do \
	  echo "pip-audit $$lock"; \
	  $(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement $$lock || exit 1; \
	done

lock: $(VENV)/.installed-audit
	@$(BIN)/python tools/lock.py $(UPGRADE)

# Each system to compare with is installed into an environment of its own below this folder.
bench bench-quick: export BENCH_ENVIRONMENTS ?= $(VENV)/bench
bench:
	@$(PYTHON) -m bench $(BENCH_ARGS)

bench-quick:
	@$(PYTHON) -m bench --quick $(BENCH_ARGS)

bench-docs:
	@$(PYTHON) -m bench.reporting.publish $(BENCH_RUN)

# One stamp for each set of extras; a change of what is needed installs again.
$(VENV)/.installed-%: pyproject.toml tools/venv.py $(wildcard deploy/*.lock tools/*.lock)
	@$(PYTHON) tools/venv.py $(@D) $*
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
