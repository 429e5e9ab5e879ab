# make demo: set up, then fuse a real recording.    make test: the test suite.    make help: the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup setup-cuda demo test test-cuda check bench bench-zmq bench-cuda clean

help:
	@echo "make demo    set up, then fuse a bundled infrared + visible recording into out/demo.mp4"
	@echo "make test    run the tests"
	@echo "make check   lint, formatting and types"
	@echo "make bench   speed of the network on this machine"
	@echo "make bench-zmq  what frames over ZeroMQ cost, into docs/zmq.md; leave the machine alone for two minutes"
	@echo "make test-cuda, make bench-cuda   on an NVIDIA GPU: its tests; its figures into docs/performance.md"
	@echo "make clean   remove the environment and what was made"

# Set up anew when what is needed has changed.
$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(BIN)/.ready-dev: $(BIN)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

setup: $(BIN)/.ready

demo: setup
	$(BIN)/python run.py configs/demo.yaml
	@echo "look at out/demo.mp4, and at out/demo.png beside it: infrared, visible, fused"

test: $(BIN)/.ready-dev
	$(BIN)/python -m pytest

check: $(BIN)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python run.py bench --model realtime --size 640x480 --frames 100
	$(BIN)/python run.py bench --model cadnif --size 640x480

bench-zmq: setup
	$(BIN)/python docs/zmq_figures.py

# On a machine with an NVIDIA GPU: torch from PyPI is a build for CUDA, and CuPy compiles our kernels.
$(BIN)/.ready-cuda: $(BIN)/.ready-dev
	$(BIN)/python -m pip install --quiet --editable ".[cuda]"
	@touch $@

setup-cuda: $(BIN)/.ready-cuda

# Without a GPU this fails, and does not skip.
test-cuda: setup-cuda
	FAIL_WITHOUT_CUDA=1 $(BIN)/python -m pytest -m cuda

bench-cuda: setup-cuda
	$(BIN)/python run.py bench --device cuda --profile out/trace.json --json docs/performance.json
	$(BIN)/python docs/performance.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find out -mindepth 1 ! -name .gitkeep -delete
