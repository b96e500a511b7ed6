# Two commands do everything: `make figures` records the embedded experiment and draws it, `make test` runs the test suite.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   := data/digits
OUT    := figures/digits

.PHONY: help setup figures record test lint format bench bench-quick clean

help:
	@echo "make setup    create $(VENV) and install pruneviz with the tested versions of what it needs"
	@echo "make figures  record the embedded experiment (once, minutes) and draw its figures into $(OUT)"
	@echo "make test     run the test suite (records first, once: the notebooks are run on the recordings)"
	@echo "make lint     check style and types"
	@echo "make bench    measure every figure of docs/benchmarks.md on this machine, peers beside it (an hour or more)"
	@echo "make bench-quick   the same at small sizes, to see that it works; writes nothing"
	@echo "make clean    delete the embedded recordings and figures"

setup: $(VENV)/.installed

# constraints.txt pins what is tested; torch and torchvision are the ordinary PyPI builds, which belong together
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[notebook,test,lint]'
	@touch $@

record: setup
	$(BIN)/python -m pruneviz.record --preset digits --out $(DATA)

figures: record
	$(BIN)/python -m pruneviz.figures --data $(DATA) --out $(OUT)

test: record
	$(BIN)/python -m pytest --numprocesses 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the peers that the benchmarks measure beside pruneviz
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.bench
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf $(DATA) $(OUT)
