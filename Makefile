# make demo: set up an environment, pretrain, calibrate and test the default network.
# make test: set up the same environment with the test extras, check and test everything.
# make test-lowest: test with the lowest versions that pyproject.toml allows, in an environment of their own.
# make docs: set up the same environment with Sphinx, run the tutorial, and build the documentation, site/html/index.html.
# make figures: run the README's job and a small sweep, and draw the pictures of README and gallery.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
# What reaches PyTorch's own kernels most: run again as on a processor without AVX-512.
AVX2_TESTS := tests/graph/test_pointwise.py tests/graph/test_precision.py tests/spiking/test_kernels.py \
	tests/calibration/steps/test_weights.py tests/training/test_classification.py tests/training/test_hybrid.py

.PHONY: demo test test-lowest docs figures clean

demo: $(VENV)/.installed
	$(BIN)/python calibrate.py model=vgg16_bn pipeline=acp T=16

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest $(AVX2_TESTS)

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -c docs -W --keep-going . site/html

figures: $(VENV)/.installed
	$(BIN)/python benchmarks/pictures.py

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e ".[test]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e ".[docs]"
	touch $@ $(VENV)/.installed

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) outputs multirun cache site docs/api
