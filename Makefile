# `make reproduce` and `make test` are all a new user needs; `make help` lists the rest.
#
# Settings are given on the command line and checked before anything starts, any profile key among them:
#   make reproduce PROFILE=paper DATA_DIR=/path/to/data BACKBONE=MobileNetV2 ONLY=02_multiclass_roc JOBS=2
#   make reproduce PROFILE=paper DATA_DIR=/shared/data EXECUTOR=slurm JOBS=20   (docs/scale.md)

.DEFAULT_GOAL := help
SHELL := /bin/bash

# An active conda or virtual environment is used; otherwise .venv is made here from the newest Python that will do.
# Paths may hold blanks, so they are quoted wherever a shell reads them, and none is a target of make.
ACTIVE := $(or $(VIRTUAL_ENV),$(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX)))
ENVIRONMENT := $(or $(ACTIVE),$(CURDIR)/.venv)
PYTHON := "$(ENVIRONMENT)/bin/python"
# The same lock either way; uv, where it is on the PATH, is several times faster.
UV := $(if $(shell command -v uv 2>/dev/null),uv)
INSTALL := $(if $(UV),uv pip install --quiet --python $(PYTHON),$(PYTHON) -m pip install --quiet --disable-pip-version-check)
STAMP := "$(ENVIRONMENT)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)"
SUPPORTED := import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 14))

# What the user gave as KEY=VALUE, handed on untouched: Python knows the names, and refuses a wrong one.
SETTINGS = $(MAKEOVERRIDES)
export PYTHONUNBUFFERED := 1

# The code beside this file is used, also where the environment was made for another checkout.
export PYTHONPATH := $(CURDIR)

# Notebooks run in their own folder, where a relative KERAS_HOME would mean another place.
ifdef KERAS_HOME
export KERAS_HOME := $(shell cd "$(KERAS_HOME)" 2>/dev/null && pwd || echo "$(KERAS_HOME)")
endif

.PHONY: help setup install reproduce test lab data check report compare reference results site benchmarks keys views count clean gpu test-cluster

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 21
	@echo
	@echo "  Settings for reproduce, data and check: PROFILE= DATA_DIR= ONLY= JOBS= RUN= EXECUTOR= and any key of 'make keys'"

setup:  ## the environment: an active one, or .venv
	@test -e $(STAMP) || $(MAKE) --no-print-directory install

install:
ifeq ($(ACTIVE),)
	@python=$$(for p in python3.13 python3.12 python3.11 python3 python; do \
	  $$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done); \
	test -n "$$python" || { echo "error: Python 3.11.4 or newer, 3.12 or 3.13 is needed; none is on the PATH" >&2; exit 1; }; \
	echo "making .venv with $$($$python --version)"; $$python -m venv .venv
else
	@echo "using the active environment $(ENVIRONMENT)"
	@$(PYTHON) -c '$(SUPPORTED)' || \
	  { echo "error: Python 3.11.4 or newer, 3.12 or 3.13 is needed; the active environment has $$($(PYTHON) --version)" >&2; exit 1; }
endif
	@echo "installing the pinned packages with $(firstword $(UV) pip); this takes a few minutes, once"
	@$(INSTALL) -r requirements.lock
	@$(INSTALL) --no-deps --editable .
	@rm -f "$(ENVIRONMENT)"/.installed-*; touch $(STAMP)

reproduce: setup  ## run what is out of date: data, models, notebooks, figures, report
	@$(PYTHON) -m helpers reproduce $(SETTINGS)

test: setup  ## the whole test suite
	@$(PYTHON) -m pytest -n auto

test-cluster: setup  ## the workflow on a Slurm that is started on this machine: Debian or Ubuntu, as root
	@$(INSTALL) -c requirements.lock "snakemake-executor-plugin-slurm==2.8.0" "snakemake-executor-plugin-slurm-jobstep==0.6.1"
	@$(PYTHON) tools/try_cluster.py

lab: setup  ## JupyterLab with this environment
	@$(PYTHON) -m jupyterlab notebooks

data: setup  ## download and unpack a profile's data sets: make data PROFILE=paper
	@$(PYTHON) -m helpers data $(SETTINGS)

check: setup  ## what lies in a data folder, and what is wrong with it: make check DATA_DIR=/path/to/data
	@$(PYTHON) -m helpers check $(SETTINGS)

views: setup  ## frontal or lateral, for each file of a folder: make views SOURCE=folder
	@$(PYTHON) -m helpers views $(SETTINGS)

keys: setup  ## the profile's keys by paper, their defaults and meaning
	@$(PYTHON) -m helpers keys

compare: setup  ## this run's figures and tables beside the committed figures/reference
	@$(PYTHON) -m helpers compare $(or $(RUN),phantom)

reference: setup  ## make the figures and tables of the default run the committed reference
	@$(PYTHON) -m helpers reference phantom

results: setup  ## bring a run on real images into figures/real and the README: make results RUN=mine
	@$(PYTHON) -m tools.results $(RUN)

site: setup  ## a static site from a finished run, in build/site: make site RUN=phantom
	@$(PYTHON) -m tools.site $(or $(RUN),phantom)

benchmarks: setup  ## the speed claims, measured here; the long ones, reproduce.py and full_scale.py, are called by hand
	@for name in features head occlusion phantoms start gpu; do \
	  echo "== benchmarks/$$name.py"; $(PYTHON) benchmarks/$$name.py || exit 1; done

count: setup  ## code lines against the budgets
	@$(PYTHON) tools/count_code.py

gpu: setup  ## add TensorFlow's CUDA packages
	@$(INSTALL) "tensorflow[and-cuda]==$$($(PYTHON) -c 'from importlib.metadata import version; print(version("tensorflow"))')"

clean:  ## delete runs/ and data/cache/, never data/raw/ or the environment
	rm -rf runs data/cache .snakemake
