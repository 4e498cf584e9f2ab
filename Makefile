# FLJob. `make` alone explains itself; every target sets up what it needs in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
# A checkout may belong to another user, as in containers.
GIT := git -c safe.directory='$(CURDIR)'
PYTEST := $(BIN)/python -m pytest
PROTO := fl_core/wire/fl.proto
GENERATED := fl_core/wire/fl_pb2.py fl_core/wire/fl_pb2.pyi fl_core/wire/fl_pb2_grpc.py \
	docs/reference/fljob.md docs/reference/fljob.schema.json manifests/crd.yaml manifests/samples/first.yaml \
	manifests/operator.yaml manifests/roles-for-people.yaml helm/fljob/files/crd.yaml helm/fljob/files/program.txt helm/fljob/files/program.sha256 \
	helm/fljob/README.md \
	docs/reference/values.md docs/reference/alerts.md

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# As workers run: threads of a framework would share two cores and add up in another order.
export OMP_NUM_THREADS := 1

# The images: their names are those that the operator expects, see job_generator/settings.py. Rules that name them
# stand below: make expands what a rule depends on when it reads the rule.

IMAGES := control server paddle sklearn numpy
# The first that answers: docker may be there without its daemon.
CONTAINER ?= $(shell for tool in docker podman buildah; do \
	if $$tool info >/dev/null 2>&1; then echo $$tool; break; fi; done)
BUILD_FLAGS ?=
REGISTRY ?=
VERSION = $(shell $(BIN)/python -c 'import importlib.metadata as m; print(m.version("fljob"))')
# Wheels are made for one Python: that of .venv, and so must the image's be.
BASE ?= python:$(shell $(BIN)/python -c 'import platform; print(".".join(platform.python_version_tuple()[:2]))')-slim
NAME_control := fljob
FILE_control := operator/Dockerfile
EXTRA_control := [operator]
NAME_server := fljob-server
FILE_server := images/server.Dockerfile
EXTRA_server := [store]
$(foreach name,paddle sklearn numpy,$(eval NAME_$(name) := fljob-worker-$(name)))
$(foreach name,paddle sklearn numpy,$(eval FILE_$(name) := images/worker.Dockerfile))
EXTRA_sklearn := [sklearn]
# Programs take data from scikit-learn, whatever they train with.
EXTRA_paddle := [paddle,sklearn]
PACKAGES_paddle := libgomp1

.PHONY: able help demo test quick cluster test-cluster lint typecheck verify generate docs chart wheels images builder cluster-images bench clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## Train the digits example: real data, 10 workers, Paddle
	@$(BIN)/fl-submit run examples/digits/job.yaml
	@printf '\nSo that your shell finds fl-submit:  source %s/bin/activate\n' $(VENV)

test: lint typecheck verify $(VENV)-moto/.made ## Everything: lint, types, import contracts, generated files, all tests
	$(PYTEST) -n 2 --dist loadscope -m "not rounds and not examples and not cluster"
	$(PYTEST) -n 3 --dist loadscope -m "rounds or examples"

quick: $(VENV)/.dev ## The tests that take seconds, with fewer examples of each property
	$(PYTEST) -n 2 --dist loadscope --hypothesis-profile quick -m "not rounds and not examples and not cluster"

# Clusters are of level 2 (the API server), 3 (and controllers, scheduler, fake nodes) or 4 (and a node that runs pods).
LEVEL := 4
ARGS :=

cluster: $(VENV)/.dev ## A Kubernetes of this machine's own to play with, until Ctrl-C; LEVEL=2, 3 or 4
	@$(BIN)/python tests/cluster up --level $(LEVEL)

test-cluster: $(VENV)/.dev $(VENV)-moto/.made ## The tests that need a Kubernetes; LEVEL=2, 3 or 4, ARGS='words for pytest'
	@$(BIN)/python tests/cluster test --level $(LEVEL) $(ARGS)

lint: $(VENV)/.dev ## Style, format and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

generate: $(VENV)/.dev ## Write what is generated: the gRPC modules, the CRD, the JSON schema, the API reference
	mkdir -p $(VENV)/proto
	$(BIN)/python -m grpc_tools.protoc -I. \
		--python_out=$(VENV)/proto --pyi_out=$(VENV)/proto --grpc_python_out=$(VENV)/proto $(PROTO)
	install -C -m 644 $(VENV)/proto/fl_core/wire/* fl_core/wire/
	$(BIN)/python -m job_generator.generate
	$(BIN)/python helm/generate.py

verify: generate ## Generate again and fail if git does not hold the same
	@changed="$$($(GIT) diff --name-only -- $(GENERATED); $(GIT) ls-files --others -- $(GENERATED))"; \
	if [ -n "$$changed" ]; then \
		$(GIT) --no-pager diff -- $(GENERATED); \
		printf 'These generated files are not what git holds; add the output of `make generate`:\n%s\n' "$$changed" >&2; \
		exit 1; \
	fi

docs: $(VENV)/.dev ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

chart: $(VENV)/.dev ## Check the Helm chart with each of its value files and package it into dist/
	@command -v helm >/dev/null || { echo 'helm is needed: helm.sh/docs/intro/install says how to get it.' >&2; exit 1; }
	for file in helm/fljob/ci/*.yaml; do helm lint --strict --quiet helm/fljob --kube-version 1.37.0 --values "$$file"; done
	helm package helm/fljob --destination dist

images: $(IMAGES:%=image-%) ## Build the images with docker, podman or buildah, each with a bill of materials in dist/sbom/

# What images are made from: where none of it changed they stay as they are.
PACKAGED = $(shell $(GIT) ls-files fl_core fl_scheduler fl_server fl_worker job_generator operator images \
	pyproject.toml constraints.txt)

# Wheels are collected first, so that the build itself needs no package index and takes nothing that is not listed.
wheels: $(IMAGES:%=dist/wheels/%.made) ## Collect in dist/wheels/ what goes into the images, with digests and bills of materials

.PRECIOUS: dist/wheels/%.made
dist/wheels/%.made: $(VENV)/.release $(PACKAGED)
	rm -rf dist/wheels/$* && mkdir -p dist/wheels/$* dist/sbom
	$(BIN)/pip wheel --quiet --constraint constraints.txt --wheel-dir dist/wheels/$* '.$(EXTRA_$*)'
	$(BIN)/python images/lock.py dist/wheels/$*
	$(BIN)/cyclonedx-py requirements dist/wheels/$*/requirements.txt --output-reproducible --output-file dist/sbom/$(NAME_$*).cdx.json
	touch $@

builder:
	@test -n '$(CONTAINER)' || { echo 'docker with its daemon, podman or buildah is needed to build images.' >&2; exit 1; }

image-%: builder dist/wheels/%.made
	$(CONTAINER) build $(BUILD_FLAGS) --file $(FILE_$*) --tag $(REGISTRY)$(NAME_$*):$(VERSION) \
		--build-arg BASE=$(BASE) --build-arg FRAMEWORK=$* --build-arg VERSION=$(VERSION) \
		--build-arg PACKAGES='$(PACKAGES_$*)' --build-arg REVISION="$$($(GIT) rev-parse HEAD)" dist/wheels/$*

# The same images for `make test-cluster`, on a base that is made from Debian, and as files: there is no registry.
cluster-images: able $(foreach name,control server numpy paddle,dist/images/$(name).tar) ## The images that tests with real pods use

able: $(VENV)/.dev
	@$(BIN)/python tests/cluster able --level 4

dist/images/%.tar: dist/wheels/%.made
	$(BIN)/python tests/cluster image $(FILE_$*) dist/wheels/$* $@ --tag $(NAME_$*):$(VERSION) \
		--argument FRAMEWORK=$* --argument VERSION=$(VERSION) --argument PACKAGES='$(PACKAGES_$*)'

bench: $(VENV)/.dev ## Print the benchmarks' ratios, measured now on this machine
	$(BIN)/python -m bench
	$(BIN)/python -m bench.secagg
	$(BIN)/python -m bench.secagg_round
	$(BIN)/python -m bench.commit
	$(BIN)/python -m bench.record
	$(BIN)/python -m bench.noise

clean: ## Remove what was built, the environments included; runs stay
	rm -rf $(VENV) $(VENV)-moto site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environment: found, made and filled once, and again when the requirements change.

NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

$(VENV)/.made:
	@if $(BIN)/python -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then touch $@; exit 0; fi; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
		if $$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
			echo "Making $(VENV) with $$($$python --version)"; \
			$$python -m venv --clear $(VENV); \
			touch $@; \
			exit 0; \
		fi; \
	done; \
	echo 'FLJob needs Python 3.11, 3.12 or 3.13 with its venv module (Debian: apt install python3-venv).' >&2; \
	echo 'None was found on PATH; name one with: make PYTHON=python3.12 ...' >&2; \
	exit 1

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'Installing what the demo needs into $(VENV): Paddle alone is about 200 MB, so this may take a minute, once ...'
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[paddle,sklearn]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'Installing what tests and tools need into $(VENV): it may take two minutes, once ...'
	@$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,paddle,sklearn]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || : # on all cores; templates of code do not compile
	@touch $@ $(VENV)/.demo

$(VENV)-moto/.made: $(VENV)/.made tests/moto.txt
	@$(BIN)/python -m venv --clear $(VENV)-moto
	@$(VENV)-moto/bin/pip install --quiet --no-compile --requirement tests/moto.txt
	@touch $@

$(VENV)/.release: $(VENV)/.dev
	@$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[release]'
	@touch $@
