# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Without a GPU, `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu` downloads the small CPU build of torch.

VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
TEST_JOBS ?= 2
STAGES := scripts eval agent export train runtime
# The first interpreter that is a supported version.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-engines test-serve check setup format clean

demo: $(VENV)/.installed-all
	$(BIN)/roadworthy compare --preset quick --output studies/quick

# Two files of tests at a time: most wait for a simulator. TEST_JOBS=1 runs them one by one.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --durations=10

# Real TensorRT for RTX engines, built without a GPU (the package is 220 MB, so it is not part of `make test`).
test-engines: $(VENV)/.installed-dev,rtx
	$(BIN)/python -m pytest tests/export/test_tensorrt.py

# A real Triton server; nvidia-pytriton wants an older numpy than everything else, so it lives in an environment of its own.
test-serve: $(VENV)-serve/.installed
	$(VENV)-serve/bin/python -m pytest tests/runtime/test_serve.py

$(VENV)-serve/.installed: pyproject.toml
	$(if $(PYTHON),$(PYTHON),python3) -m venv $(VENV)-serve
	$(VENV)-serve/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[cpu,serve]' onnx pytest pytest-timeout
	@touch $@

check: $(VENV)/.installed-dev build/typecheck/roadworthy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p roadworthy
	$(BIN)/lint-imports

setup: $(VENV)/.installed-dev

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One recipe per set of extras; a changed pyproject or constraints file installs again.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing roadworthy[$*] into $(VENV) ..."
	$(PIP) --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Roadworthy needs Python 3.11 or 3.12; found neither. Install one, or: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "could not create $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }

# mypy looks the stages up under their installed name.
build/typecheck/roadworthy:
	mkdir -p $@
	for stage in $(STAGES); do ln -sfn ../../../$$stage $@/$$stage; done

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
