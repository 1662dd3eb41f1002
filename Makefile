# Needs python3 (>= 3.11) and make; everything else is installed into .venv from the pinned lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
LOCK := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy requires-python \
  --no-emit-index-url --no-header --no-annotate
TORCH := torch==2.13.0
# What a kernel's text follows from; kernels of an older text are not called, and those of a newer one are not there.
KERNELS := $(wildcard $(foreach part,cli/kernels.py registry.py optimizers/*.py core/*.py storage/*.py wrappers/*.py \
  kernels/*.py kernels/cpu/*.py kernels/cpu/native/*,jaxopt_lectures/$(part)))
CODECS := f32,bf16,fp8,int8,int4
# Tests whose programs XLA compiles as it does for users; it takes less care of all others (tests/conftest.py).
AS_USERS := tests/kernels tests/test_examples.py
BUILT := jaxopt_lectures/kernels/cpu/built

.PHONY: help setup demo test docs bench soak sanitize wheel lock format clean

help:
	@echo "make demo    which of six optimizers is best on handwritten digits?"
	@echo "make test    lint, types and all tests"
	@echo "make docs    run the examples and build the site, docs/_build/html/index.html"
	@echo "make setup   only the environment (.venv), and the kernels for this machine"
	@echo "make wheel   a wheel in dist/, with kernels for all machines like this one; some minutes"
	@echo "make bench   the measurements of docs/measurements.md"
	@echo "make soak    kill training runs a hundred times, and go on with them; every optimizer with every codec"
	@echo "make sanitize  kernels under the address and undefined behaviour sanitizers"
	@echo "make lock    resolve the lock files again (needs uv)"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.setup: $(VENV)/.made requirements.lock pyproject.toml
	@echo "installing the pinned packages into $(VENV), about a minute ..."
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.docs: $(VENV)/.setup requirements-docs.lock
	@echo "installing the documentation tools ..."
	@$(PIP) install -r requirements-docs.lock
	@touch $@

# torch is a twin in tests and benchmarks only; where it cannot be had, those tests skip and say so.
$(VENV)/.test: $(VENV)/.setup requirements-test.lock
	@echo "installing the test tools and $(TORCH) (only a twin in tests) ..."
	@$(PIP) install -r requirements-test.lock
	@$(PIP) install $(TORCH) || echo "torch was not installed: the tests that compare with it will skip"
	@touch $@

$(VENV)/.bench: $(VENV)/.test requirements-bench.lock
	@echo "installing the peers of the measurements ..."
	@$(PIP) install -r requirements-bench.lock
	@touch $@

# Without kernels all works, so nothing here fails; where there are none, the next set-up tries again.
$(VENV)/.kernels: $(VENV)/.setup $(KERNELS)
	@echo "compiling kernels for this machine into $(BUILT), about a minute ..."
	@if $(BIN)/jaxopt-lectures kernels --build 2> $(VENV)/kernels.log; then touch $@; \
	  else echo "no kernels were made, every step will be the plain one: $$(tail -n 1 $(VENV)/kernels.log)"; fi

setup: $(VENV)/.setup $(VENV)/.kernels

demo: $(VENV)/.setup
	$(BIN)/jaxopt-lectures compare digits --optimizers adam,adamw,sgd,momentum,nesterov,lion --twins

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal $(AS_USERS:%=--ignore=%)
	XLA_FLAGS= $(BIN)/python -m pytest -n 2 --dist worksteal $(AS_USERS)

# Warnings are errors; all of them are shown first.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.minimize
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.comparison
	$(BIN)/python -m benchmarks.storage
	$(BIN)/python -m benchmarks.beyond
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.fused
	$(BIN)/python -m benchmarks.gpu

soak: $(VENV)/.test
	KILLS=50 $(BIN)/python -m pytest -n 2 tests/training/test_kill.py tests/training/test_nonfinite.py
	KILLS=20 $(BIN)/python -m pytest -s tests/training/test_lost_process.py tests/training/test_processes.py
	STORAGE=all $(BIN)/python -m pytest -n 2 tests/conformance/test_storage.py tests/conformance/test_sharded.py
	XLA_FLAGS= KERNELS=all $(BIN)/python -m pytest -n 2 tests/kernels/test_cards.py

sanitize: $(VENV)/.test
	$(BIN)/python -m tests.kernels.sanitized

# Kernels for the wheel lie in build/, not where those of this machine are; hatch_build.py puts them in.
build/kernels/.made: $(VENV)/.setup $(KERNELS)
	@echo "compiling kernels for all processors like this one, some ten minutes ..."
	@mkdir -p build/kernels && rm -f build/kernels/*
	@if $(BIN)/jaxopt-lectures kernels --build --codecs $(CODECS) --everywhere --into build/kernels 2> build/kernels.log; \
	  then touch $@; else echo "the wheel will have no kernels: $$(tail -n 1 build/kernels.log)"; fi

wheel: build/kernels/.made
	$(BIN)/python -m hatchling build -t wheel

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	$(LOCK) --extra build pyproject.toml -o requirements.lock
	$(LOCK) --extra build --extra docs -c requirements.lock pyproject.toml -o requirements-docs.lock
	$(LOCK) --extra build --extra docs --extra test -c requirements-docs.lock pyproject.toml -o requirements-test.lock
	$(LOCK) --extra build --extra docs --extra test --extra bench -c requirements-test.lock pyproject.toml \
	  -o requirements-bench.lock

clean:
	rm -rf $(VENV) $(BUILT) build dist results docs/_build docs/gallery docs/reference
