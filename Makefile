# One command each, the same on a laptop and in CI. Needs Python 3.11, make and a C compiler; the rest is set up in .venv.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON      ?= $(shell command -v python3.11 || command -v python3)
BIN         := .venv/bin
LOCK        := images/locks/local.txt
READY       := .venv/.ready
# Where no registry can be reached, the base is made here (tests/containers/local_base.py); else give python:3.11-slim.
BASE_IMAGE  ?= localhost/python-debian:3.11
ROOMS       ?=
BUILD_NETWORK ?= host
DATA        ?= sample
TAMPER      ?=
KFP_HOST    ?=
KUBECONFIG  ?=
CLUSTER_TESTS ?= tests/cluster
SHARDS      ?= 1

# Installed byte code makes every task start several times faster.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-stop test test-cluster test-engines test-exports test-loops fuzz check compile images containers test-containers bench bench-images lock clean

help:  ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY)  ## the environment in .venv, exactly as locked

$(READY): $(LOCK) images/locks/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r images/locks/uv.txt
	@echo "installing what $(LOCK) names into .venv: a few minutes the first time"
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r $(LOCK)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	mkdir -p .dev/kfp_custody  # mypy cannot see through an editable install: it follows these two links
	ln -sfn ../../components .dev/kfp_custody/components
	ln -sfn ../../pipelines .dev/kfp_custody/pipelines
	touch $@

demo: $(READY)  ## the reference pipeline on this machine; DATA=sample|ulb, SHARDS=8, TAMPER=dataset|masked|model|evidence|policy
	$(BIN)/python scripts/demo.py --data $(DATA) --shards $(SHARDS) $(if $(TAMPER),--tamper $(TAMPER))

demo-stop: $(READY)  ## stop the model server that the demo left serving
	$(BIN)/python scripts/demo.py --stop

test: $(READY)  ## every test that needs no cluster
	$(BIN)/pytest -q -n 2 --dist loadscope

# What the tests ask for besides (CUSTODY_TEST_..., their heads list it) may stand here too: make exports what it is given.
test-cluster: $(READY)  ## on your cluster: the pipelines (KFP_HOST=https://...) and rollouts (KUBECONFIG=...)
	KFP_HOST="$(KFP_HOST)" $(if $(KUBECONFIG),KUBECONFIG="$(KUBECONFIG)") $(BIN)/pytest -q -m cluster $(CLUSTER_TESTS)

# Spark and Ray are large and only for tests: beside the environment, not in it. Spark needs Java 17.
ENGINES := .engines
$(ENGINES)/.ready: images/locks/engines.txt $(READY)
	rm -rf $(ENGINES)
	$(BIN)/uv pip install --quiet --require-hashes --no-deps --target $(ENGINES) -r images/locks/engines.txt
	touch $@

test-engines: $(ENGINES)/.ready  ## masking inside Spark and Ray; needs Java 17
	PYTHONPATH=$(ENGINES) $(BIN)/pytest -q -m engines tests/engines

# BentoML asks for other versions than the laptop's: an environment of its own, which holds no KFP and no MLServer.
EXPORTS := .exports
$(EXPORTS)/.ready: images/locks/exports.txt $(READY)
	rm -rf $(EXPORTS)
	$(BIN)/python -m venv --without-pip $(EXPORTS)
	VIRTUAL_ENV=$(EXPORTS) $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r images/locks/exports.txt
	VIRTUAL_ENV=$(EXPORTS) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

test-exports: $(EXPORTS)/.ready  ## a real BentoML serves an exported model, and refuses tampered ones
	$(BIN)/pytest -q -m exports tests/exports

test-loops: $(READY)  ## whole loops with real servers: a canary on Seldon's stand-in, requests to an alert to a retraining
	$(BIN)/pytest -q -n 2 --dist loadscope -m loops tests/local tests/services

fuzz: $(READY)  ## mutate evidence, listings, trust files and policies; FUZZ="--inputs 120000 --seed 1"
	$(BIN)/python tests/fuzz/fuzz_evidence.py $(FUZZ)

check: $(READY)  ## lint, format, types, import contracts, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/compile.py --check

compile: $(READY)  ## write component.yaml, pipeline.yaml and the generated parts of the READMEs
	$(BIN)/python scripts/compile.py

images: $(READY)  ## build the images, all or ROOMS="pii-masking serving"; BASE_IMAGE=python:3.11-slim
	if [[ "$(BASE_IMAGE)" == localhost/python-debian:* ]] && ! docker image inspect "$(BASE_IMAGE)" >/dev/null 2>&1; then \
	  $(BIN)/python tests/containers/local_base.py debian "$(BASE_IMAGE)"; fi
	$(BIN)/python scripts/build_images.py $(ROOMS) --base-image "$(BASE_IMAGE)" --network "$(BUILD_NETWORK)"

containers: images  ## build the images and run the reference pipeline in them; needs a running container engine
	$(BIN)/python scripts/containers.py

# Needs root, mmdebstrap, docker-registry and what `make containers` left; compares with a plain run of the demo.
test-containers: $(READY)  ## test the images, and what goes wrong with engines
	$(MAKE) demo DATA=sample SHARDS=1 TAMPER=
	$(BIN)/pytest -q -m containers tests/containers

bench-images: $(READY)  ## sizes of the images beside the same stages installed the plain way; needs `make containers`
	$(BIN)/python benchmarks/image_sizes.py

bench: $(READY) build/demo/summary.json  ## run every benchmark; results in build/bench
	for bench in $(filter-out benchmarks/_% benchmarks/image_sizes.py,$(wildcard benchmarks/*.py)); do $(BIN)/python "$$bench"; done

build/demo/summary.json:
	$(MAKE) demo

lock: $(READY)  ## resolve the dependencies anew, with hashes: of the laptop and of every image
	$(BIN)/python scripts/lock.py

clean:  ## remove what was built; keeps .venv
	rm -rf build dist .dev .engines .exports *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis local_outputs
	rm -f $(READY)
