# Slipway, from a clone to a served model. `make` lists what there is; nothing here asks a question.

MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

## the contract of the model to work on
PROJECT ?= project.yaml
## the Python that .venv is made of: 3.11, 3.12 or 3.13
PYTHON ?= python3
## the build of torch: cpu, cuda, or auto: by whether a GPU is visible
TORCH ?= auto
## what `make test` runs
TESTS ?= $(wildcard $(addprefix tests/,unit contract charts local cluster))
## how many test files run at the same time
JOBS ?= 2
## more options for the command or for pytest, for example ARGS="-k drain"
ARGS ?=
## `make lock UPGRADE=1` also moves versions that requirements/*.in leave open
UPGRADE ?=
## images to build: some of data, train, serve, tools; empty: all
ROLES ?=
## what stands before the role in their names
IMAGE_REGISTRY ?= ghcr.io/slipway
## their tag; empty: the git commit
TAG ?=
## 1: push them to IMAGE_REGISTRY; HOST/PATH: there, for a cluster that mirrors it
PUSH ?=
## what builds them: docker, podman or buildctl; empty: the first that answers
ENGINE ?=
## host: they are built on this machine's network, for a proxy or an index on loopback
NETWORK ?=
## the cluster: a context of the kubeconfig; empty: kind-slipway
CONTEXT ?=
## laptop, team or production
PROFILE ?= laptop
## your folder of values, laid over the profile's: profile.yaml, RELEASE.yaml
VALUES ?=
## folder of `make bundle`: deploy from it alone
BUNDLE ?=
## registry that holds images under their full names
MIRROR ?=
## http://HOST:PORT of the gateway; empty: found out
GATEWAY ?=
## the release that `make release-charts` keeps, such as 0.1.0
VERSION ?=
## `make down KEEP=data` keeps the volumes
KEEP ?=

export CONTEXT PROFILE VALUES BUNDLE MIRROR GATEWAY KEEP
export PYTHON TORCH UPGRADE ROLES IMAGE_REGISTRY TAG PUSH ENGINE NETWORK
# Nothing phones home. The code sets these too; here they also cover tools run by hand.
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

# Bytecode is written, even where the environment forbids it: every step and worker is a process of its own
# and imports twice as fast the second time. (Compiling all at install would cost a minute; this, nothing.)
unexport PYTHONDONTWRITEBYTECODE

# Stamps: a second call is instant. Their names hold the choices, so that another choice sets up anew.
tools := .venv/.tools-$(subst /,_,$(PYTHON))
ready := .venv/.ready-$(subst /,_,$(PYTHON))-$(TORCH)
ready_dev := $(ready)-dev
slipway := .venv/bin/slipway

##@ Lifecycle

.PHONY: demo serve score report data compile
demo: $(ready) ## The whole lifecycle on this machine: data to a model that answers, and a report
	$(slipway) demo --project $(PROJECT) $(ARGS)

serve: $(ready) ## Serve the champion, its metrics and the MLflow UI on loopback until Ctrl-C
	$(slipway) serve --project $(PROJECT) $(ARGS)

score: $(ready) ## Send one real request to the endpoint of `make serve`
	$(slipway) score --project $(PROJECT) $(ARGS)

report: $(ready) ## Print where the report of the last run is
	$(slipway) report --path --project $(PROJECT) $(ARGS)

data: $(ready) ## List the data versions
	$(slipway) data list --project $(PROJECT) $(ARGS)

compile: $(ready) ## Compile the pipelines to the YAML that a KFP cluster runs
	$(slipway) compile --project $(PROJECT) $(ARGS)

##@ Development

.PHONY: setup test lint format verify lock lock-check
setup: $(ready_dev) ## Make .venv with everything in it; the other targets do so when they need it

test: $(ready_dev) ## Run the tests, and say which were skipped and why
	$(if $(TESTS),.venv/bin/python -m pytest -rs -n $(JOBS) --dist loadfile $(ARGS) $(TESTS),@echo "no tests yet: tests/unit and its neighbours do not exist")

lint: $(ready_dev) ## Check style, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: $(ready_dev) ## Mend style and format
	.venv/bin/ruff check --fix --exit-zero --quiet .
	.venv/bin/ruff format .

verify: $(ready_dev) compile lock-check ## Regenerate what is generated; the tree must be clean afterwards
	@test -z "$$(git status --porcelain)" || { git status --short; \
	  echo "Generated files differ from what is committed: look at the files above and commit them."; exit 1; }

lock: $(tools) ## Resolve requirements/*.lock anew from requirements/*.in, the one place for versions
	@make/lock.sh

lock-check: $(ready) ## Check, offline, that the locks satisfy requirements/*.in
	.venv/bin/python make/lock_check.py

##@ Images

.PHONY: images images-lock
images: $(tools) ## Build the images of this commit, and a bill of materials for each
	@make/images.sh

images-lock: $(ready_dev) ## Write images.lock: every image that can be pulled, with the registries' digests
	.venv/bin/python -m tests.charts.images_lock

##@ Charts

.PHONY: schemas budget release-charts
schemas: $(ready_dev) ## Write the schemas that charts are checked against, from the pinned Go modules
	.venv/bin/python make/schemas.py

budget: $(ready_dev) ## Write what each profile asks of a cluster into charts/README.md
	.venv/bin/python -m tests.charts.budget

release-charts: $(ready_dev) ## Keep what the charts of VERSION render, for the tests of upgrades
	.venv/bin/python -m tests.charts.upgrade "$(VERSION)"

##@ Cluster

.PHONY: doctor deploy-kind deploy status submit runs down bundle charts test-cluster
doctor: $(ready) ## Check whether this machine is fit for deploy-kind, and say what mends it
	@$(slipway) doctor $(ARGS)

deploy-kind: $(ready) ## A kind cluster with the whole platform, a training run and real predictions
	@$(slipway) doctor
	@$(if $(BUNDLE),,make/images.sh)
	@$(slipway) deploy --kind --run --project $(PROJECT) $(ARGS)

deploy: $(ready) ## Install or upgrade the platform on CONTEXT; ARGS=--run also trains and scores
	@$(slipway) deploy --project $(PROJECT) $(ARGS)

status: $(ready) ## What runs on CONTEXT, what is unhealthy, and why
	@$(slipway) status $(ARGS)

submit: $(ready) ## Upload the training pipeline of this commit to CONTEXT, run it, and follow the run
	@$(slipway) submit --project $(PROJECT) $(ARGS)

runs: $(ready) ## List the runs of CONTEXT
	@$(slipway) runs $(ARGS)

down: $(ready) ## Take the platform off CONTEXT, or delete the kind cluster
	@$(slipway) down $(ARGS)

bundle: $(ready) ## Put every chart and image of PROFILE into the folder BUNDLE
	@$(slipway) bundle $(ARGS)

charts: $(ready) ## Fetch the charts of others, checked, and the library chart of ours
	@$(slipway) charts $(ARGS)

test-cluster: $(ready_dev) ## Run the tests that need a cluster, on CONTEXT: they install, kill and uninstall there
	SLIPWAY_TEST_CONTEXT=$(CONTEXT) .venv/bin/python -m pytest -rs $(ARGS) tests/cluster

##@ Measuring

.PHONY: bench-serving bench-lifecycle bench-scale fuzz
bench-serving: $(ready_dev) ## The serving runtime beside seven others; installs them into .bench, needs wrk
	.venv/bin/python -m benchmarks.serving $(ARGS)

bench-lifecycle: $(ready) ## The whole run beside the bare work of its steps in one process
	.venv/bin/python -m benchmarks.lifecycle $(ARGS)

bench-scale: $(ready) ## Ten times the rows: seconds and memory
	.venv/bin/python -m benchmarks.scale $(ARGS)

fuzz: $(ready_dev) ## 200,000 inputs by every way into the server, led by the code that they reach
	@make/fuzz.sh
	PYTHONPATH=.venv/fuzz .venv/bin/python -m tests.fuzz $(ARGS)

##@ Housekeeping

.PHONY: help clean distclean
help: ## Show this text
	@awk -f make/help.awk $(firstword $(MAKEFILE_LIST))

clean: ## Remove .slipway (runs, models and data versions of this machine) and caches
	rm -rf .slipway .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## Also remove .venv and the servers of bench-serving
	rm -rf .venv .bench

$(tools): requirements/uv.txt
	@make/setup.sh tools
	@touch $@

$(ready): $(tools) pyproject.toml make/setup.sh requirements/base.lock requirements/cuda.lock requirements/cpu.lock
	@make/setup.sh runtime
	@touch $@

$(ready_dev): $(ready) requirements/dev.lock
	@make/setup.sh dev
	@touch $@
