# Every target sets up what it needs: `make experiments` and `make test` are all a fresh machine
# takes, with Python 3.11 or later.
PYTHON ?= python3
PY := .venv/bin/python
PIP := -m pip install --quiet --disable-pip-version-check
PRESET ?= paper
# One BLAS thread: the study's own threads do the rest, and sums do not depend on the machine.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help experiments quick figures laws paper explorer gallery test test-slow test-faults
.PHONY: nightly verify lint types docs house browser lock bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

experiments: .venv/.ready ## Run all experiments: CSVs in results/, figures in figures/, verdicts
	$(PY) -m study run --preset $(PRESET)

quick: .venv/.ready ## The same in a minute or two, smaller, into build/quick/
	$(PY) -m study run --preset quick

figures: .venv/.ready ## Draw the figures again from the CSVs alone
	$(PY) -m study figures

laws: .venv/.ready ## Hold the laws of the field against networks: results/laws, docs/laws.md
	$(PY) -m study run laws --preset $(PRESET)

paper: .venv/.ready ## Set paper/paper.pdf from the CSVs and figures alone
	$(PY) -m study paper

explorer: .venv/.ready ## Build figures/explorer.html from the CSVs alone; it opens offline
	$(PY) -m study explorer

gallery: .venv/.ready ## Write docs/gallery.md: every figure, its question, claims, CSVs, command
	$(PY) -m study gallery

docs: .venv/.docs .venv/.torch ## Build the site into build/docs, without a warning, and check its links
	$(PY) -m sphinx -W -n -q -j auto docs build/docs
	$(PY) docs/links.py build/docs

test: .venv/.ready .venv/.torch ## Run the tests (torch autograd is one of the witnesses)
	$(PY) -m pytest -n auto --dist worksteal

test-slow: .venv/.ready .venv/.torch ## Run the tests that take minutes
	$(PY) -m pytest -m slow -n auto --dist worksteal

test-bridges: .venv-bridges/.ready ## Test the recipes for Lightning, transformers, W&B and others
	STUDY_WITNESSES=all .venv-bridges/bin/python -m pytest -m '' tests/torch/test_bridges.py

test-faults: .venv/.ready .venv/.torch ## Do the bad things, all of them: 100 kills, full disks, damage
	$(PY) -m pytest -m faults

nightly: .venv/.ready .venv/.torch test-bridges ## All tests, slow ones too, with more examples; the bridges; a sample again
	$(PY) -m pytest -m "" --hypothesis-profile=nightly -n auto --dist worksteal
	$(PY) -m study verify

verify: .venv/.ready ## Check the results: files, provenance, identities, a sample computed again
	$(PY) -m study verify

lint: .venv/.ready ## Check format and style
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: .venv/.docs ## Check the types of the public names and of what is under them
	$(PY) -m mypy

house: .venv/.ready ## Weigh the project: lines, tokens a line, comments, its longest function
	$(PY) tests/house.py

bench: .venv/.ready .venv/.torch ## Measure speed against torch, as ratios: results/bench/bench.csv
	$(PY) -m benchmarks

browser: ## Install the browser that tests the explorer (Debian's packages; as root or by sudo)
	command -v chromium && command -v chromedriver || { \
	  as=$$([ $$(id -u) = 0 ] || echo sudo); $$as apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends \
	    chromium chromium-driver; }

lock: ## Pin the dependencies again (needs uv)
	uv pip compile pyproject.toml --extra data --extra test --extra cluster --extra paper \
	  --extra explorer --extra parquet --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml --extra docs --constraints requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-docs.lock

clean: ## Remove the environment and caches; results and figures stay
	rm -rf .venv .venv-bridges build .pytest_cache .ruff_cache .hypothesis .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(PY) $(PIP) --no-compile --require-hashes -r requirements.lock
	$(PY) -m compileall -q -j 0 -x '/tests?/' .venv/lib # pip would compile on one core, tests too
	@touch $@

.venv/.docs: requirements-docs.lock .venv/.ready
	$(PY) $(PIP) --require-hashes -r requirements-docs.lock
	@touch $@

# torch comes in many builds, so it is pinned by version and not in the lock.
.venv/.torch: .venv/.ready
	$(PY) $(PIP) torch==2.13.0
	@touch $@

# On top of .venv, whose packages it sees: torch is not installed twice.
.venv-bridges/.ready: .venv/.torch
	$(PY) -m venv .venv-bridges
	$(PY) -c 'import site; print(site.getsitepackages()[0])' \
	  > $$(.venv-bridges/bin/python -c 'import site; print(site.getsitepackages()[0])')/base.pth
	.venv-bridges/bin/python $(PIP) torch==2.13.0 \
	  lightning==2.6.6 transformers==5.24.0 accelerate==1.15.0 tensorboard==2.21.0 wandb==0.31.0
	@touch $@
