# psn_lightning: everything a visitor needs is `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/installed ## Install, then train RigL at 90% sparsity on the digits
	$(BIN)/psn-train demo

.PHONY: test
test: $(VENV)/installed-test ## Install, then run the default tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

.PHONY: services
services: $(VENV)/installed-test $(VENV)/installed-postgres ## Tests with PostgreSQL, MLflow's server, two ranks, jobs or sweeps of processes; needs Debian's postgresql
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m services --numprocesses auto --dist worksteal

.PHONY: faults
faults: $(VENV)/installed-test ## Tests that kill processes and servers and fill disks, 20 minutes; SELECT="-k kills" for some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults --numprocesses auto --dist worksteal $(SELECT)

.PHONY: coverage
coverage: $(VENV)/installed-test ## The default tests with branch coverage of the package; numba's kernels are compiled and not seen
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --cov=psn_lightning --cov-report=term-missing:skip-covered

.PHONY: lint
lint: $(VENV)/installed-lint ## Style, format, types and spelling; the container files; known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell psn_lightning conf docs examples benchmarks README.md CHANGELOG.md --skip '*.png,*.svg,*.json,docs/_build,docs/generated'
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/python .ci/audit.py

.PHONY: docs
docs: $(VENV)/installed-docs ## Build the site into docs/_build/html: tutorials run, warnings are errors, links are checked; needs no network
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --jobs 2 --quiet docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

.PHONY: dist
dist: $(VENV)/installed-dist ## Build wheel and source archive into dist/, and check them
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

.PHONY: bench
bench: $(VENV)/installed-bench ## Measure speed, 40 minutes, with nothing beside it: benchmarks/bench.json, docs/benchmarks.md, docs/speed*.png
	$(BIN)/psn-train bench --out benchmarks
	mv benchmarks/bench.md docs/benchmarks.md
	mv benchmarks/bench_layers.png docs/speed.png
	mv benchmarks/bench_epochs.png docs/speed_epochs.png
	mv benchmarks/bench_scale.png docs/speed_scale.png

.PHONY: clean
clean: ## Remove the environment and all caches, never mlruns/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is newer than pyproject.toml exactly when its group is installed: a second call is quick.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/installed-%: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[$*]'
	@touch $@
