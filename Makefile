# `make figures` records the embedded experiment and draws it, `make test` runs the test suite.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   := data/digits
OUT    := figures/digits

# Figures whose runs are all in data/cifar-mini.
SHIPPED := 2 3 13 14 15 H1a
SHIPPED_PRUNED := 1 4 5 6 7 8 9 10 11 12 16 17
# Figures of the embedded experiment.
FIGURES := 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 H1a H1b

.PHONY: help setup shipped record figures test soak test-statistics test-networks networks notebooks docs lint format bench bench-quick clean

help:
	@echo "make setup        create $(VENV) and install pruneviz with the tested versions"
	@echo "make shipped      draw the shipped recordings in data/cifar-mini (seconds)"
	@echo "make figures      make shipped, then record the embedded experiment (once, minutes) and draw it"
	@echo "make record       record the embedded experiment without drawing it"
	@echo "make test         run the test suite (records first, once: notebooks need the recordings)"
	@echo "make soak         kill, damage and repeat recordings (an hour; docs/reliability.md)"
	@echo "make test-statistics  check standard errors and intervals, on CIFAR-100 in PRUNEVIZ_IMAGES (an hour)"
	@echo "make test-networks  check 104 public architectures against plain autograd (minutes)"
	@echo "make networks     the same, and rebuild the tables of docs/networks.md"
	@echo "make notebooks    run the notebooks and write their outputs"
	@echo "make docs         build the documentation site, docs/_build/html/index.html"
	@echo "make lint         check style and types"
	@echo "make format       fix style"
	@echo "make bench        measure everything in docs/benchmarks.md on this machine (an hour or more)"
	@echo "make bench-quick  the same at small sizes, to check that it works; writes nothing"
	@echo "make clean        delete the embedded recordings and figures, and the built site"

setup: $(VENV)/.compiled node_modules/.installed

# constraints.txt pins what is tested. torch and torchvision are the ordinary PyPI builds.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[notebook,test,lint,docs]'
	@touch $@

# pip compiles 19,000 files on one core, this on all, without tests of packages and models of
# transformers: a third, of which next to none is loaded. Templates in packages do not compile.
$(VENV)/.compiled: $(VENV)/.installed
	@$(BIN)/python -W ignore -m compileall -qq -j 0 -x '/tests/|/transformers/models/[b-z]' $(VENV)/lib || true
	@touch $@

# TypeScript for `make lint` and axe-core for the browser tests.
node_modules/.installed: package.json
	@if command -v npm > /dev/null; then \
	  npm install --silent --no-package-lock --no-audit --no-fund && touch $@; \
	else \
	  echo "npm is missing: types and accessibility of the page of recordings are not checked" >&2; \
	fi

shipped: setup
	$(BIN)/pruneviz figures $(SHIPPED) --data data/cifar-mini --out figures/cifar-mini
	$(BIN)/pruneviz figures $(SHIPPED_PRUNED) --data data/cifar-mini-pruned --out figures/cifar-mini

record: setup
	$(BIN)/pruneviz record --preset digits --out $(DATA)

# One command records all runs, and one draws: each start of a command leaves cores idle.
figures: shipped record
	$(BIN)/pruneviz figures $(FIGURES) --data $(DATA) --out $(OUT)

# One thread each: threads of several processes that share cores wait for each other at full load.
test: record
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# Tests of docs/reliability.md at full length, marked `soak`; the same seeds each time.
soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak --timeout 3600 --numprocesses 2 --dist worksteal

# Statistical tests, marked `statistics`. A folder of runs with kept weights in PRUNEVIZ_STATISTICS saves training.
test-statistics: setup
	$(BIN)/python -m pytest -m statistics --timeout 7200

test-networks: setup
	$(BIN)/python -m tests.networks

networks: setup
	$(BIN)/python -m tests.networks --write

notebooks: record
	$(BIN)/python -m tests.support.executed_notebooks

# Warnings are errors. Pictures of figures/digits are shown if they are there; nothing is run or drawn.
docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --jobs 2 \
	  --conf-dir docs/site --builder html --doctree-dir docs/_build/doctrees . docs/_build/html
	$(BIN)/python docs/site/check.py docs/_build/html
	@echo "open docs/_build/html/index.html"

# Needs nothing compiled, so that CI can compile beside it.
lint: $(VENV)/.installed node_modules/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ -e node_modules/.installed ]; then node_modules/.bin/tsc; \
	else echo "scripts of the page are not type-checked: npm is missing" >&2; [ -z "$$CI" ]; fi

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Other tools for comparison in the benchmarks.
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.bench
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf $(DATA) $(OUT) docs/_build docs/gallery
