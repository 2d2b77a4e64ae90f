# Two commands do everything, installation included: `make erase` and `make test`; the first
# installs only what is needed to run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEVELOPED := $(VENV)/developed

# What `make erase` does; ARGS are further flags of `erase run`. Without an anchor it is the
# concept's own.
MODEL ?= mini
CONCEPT ?= church
ANCHOR ?= $(if $(subst church,,$(CONCEPT)),,truck)
ARGS ?=
space := $(subst ,, )
OUT ?= runs/$(subst /,-,$(subst $(space),-,$(CONCEPT)))

.PHONY: help install erase classifier test test-slow check docs release format clean
.DEFAULT_GOAL := help

help:
	@echo 'make erase       erase a concept: MODEL=mini CONCEPT=church ANCHOR=truck ARGS='
	@echo 'make classifier  an image classifier forgets a class, beside models that never saw it'
	@echo 'make test        the tests (make test-slow: the long ones)'
	@echo 'make check       style and types'
	@echo 'make docs        the documentation, site/index.html; a warning or a dead link is an error'
	@echo 'make release     all of a release but its upload, from a clean checkout'
	@echo 'make format      fix the style'
	@echo 'make clean       remove what was built and installed (runs/ stays)'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@echo 'Installing PyTorch, diffusers and the other dependencies into $(VENV): on Linux 6.6 GB, 3.4 GB'
	@echo 'of it CUDA. docs/quickstart.md says how to leave CUDA out on a machine without a GPU.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	@touch $@
	@echo 'Installed. The command is $(BIN)/erase; "source $(BIN)/activate" makes it "erase".'

$(DEVELOPED): $(INSTALLED)
	@echo 'Installing what the tests and checks need: 0.5 GB more.'
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

# Passed through the environment, so that any text may stand in them.
erase: export ERASE_MODEL = $(MODEL)
erase: export ERASE_CONCEPT = $(CONCEPT)
erase: export ERASE_ANCHOR = $(ANCHOR)
erase: export ERASE_OUT = $(OUT)
erase: $(INSTALLED)
	@$(BIN)/erase run --model "$$ERASE_MODEL" --concept "$$ERASE_CONCEPT" \
	  $${ERASE_ANCHOR:+--anchor "$$ERASE_ANCHOR"} --out "$$ERASE_OUT" $(ARGS)

classifier: $(INSTALLED)
	@$(BIN)/erase classifier run --forget class:church --out runs/classifier $(ARGS)

# One thread a worker: two of them are hardly faster than one at sizes as small as the tests'.
test: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 -m 'not slow'

test-slow: $(DEVELOPED)
	$(BIN)/python -m pytest -m slow

# Types and layers are checked in an installed copy: in the clone, mypy and import-linter can't see
# that eval/ is erase.eval.
check: $(DEVELOPED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/typed .
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml \
	  --cache-dir ../../.mypy_cache -p erase
	cd build/typed && PYTHONPATH=. ../../$(BIN)/lint-imports ../../pyproject.toml --no-cache
	rm -rf build

docs: $(DEVELOPED)
	$(BIN)/python -m sphinx -q -W --keep-going docs site
	@echo 'site/index.html'

# All that must hold before an upload, the cheapest first.
release: VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
release: $(DEVELOPED)
	@test -z "$$(git status --porcelain)" || { echo 'There are changes: commit them first.'; exit 2; }
	@grep -Eq '^## $(VERSION) - [0-9]{4}(-[0-9]{2}){2}$$' CHANGELOG.md || \
	  { echo 'CHANGELOG.md has no date for $(VERSION): write "## $(VERSION) - YYYY-MM-DD".'; exit 2; }
	$(MAKE) check docs test test-slow
	rm -rf build dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/bare
	build/bare/bin/python -m pip install dist/erase_diffusion-$(VERSION)-py3-none-any.whl
	cd build && bare/bin/erase --version && bare/bin/erase list recipes
	rm -rf build
	@echo 'dist/ is ready. Left to do: git tag v$(VERSION), push it, and $(BIN)/twine upload dist/*'

format: $(DEVELOPED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build site dist docs/methods docs/commands *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
