# Every target sets itself up in .venv; the stamps say what is installed already.
PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.runtime
DEV := .venv/.development

.PHONY: demo test test-fast check lint clean

demo: $(RUN)
	$(BIN)/loracast demo -o runs/demo

test: $(DEV)
	$(BIN)/python -m pytest

test-fast: $(DEV)
	$(BIN)/python -m pytest -m "not slow"

check: lint test

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

$(RUN): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[study,tensorboard]' --group check --group test
	touch $@

clean:
	rm -rf .venv runs
