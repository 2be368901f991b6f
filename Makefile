# Every target sets itself up in .venv; the stamps say what is installed already.
PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.runtime
DEV := .venv/.development

.DELETE_ON_ERROR:
.PHONY: demo recipe same-recipe test test-fast check lint clean

demo: $(RUN)
	$(BIN)/loracast demo -o runs/demo

# The bundled model and its tuning from nothing, as recipe.yaml says: for a GPU. What was cut off goes on. DATA and SPLIT
# name series and their split; simulated ones are made unless given.
RECIPE ?= recipe.yaml
R ?= runs/recipe
GIVEN := $(words $(if $(DATA),1) $(if $(SPLIT),1))
DATA ?= $(R)/data.h5
SPLIT ?= $(R)/split.json
MADE_OF = $(DATA) $(SPLIT) $(shell cksum < $(RECIPE))

recipe: same-recipe $(R)/adapter/adapter_config.json
	$(BIN)/loracast evaluate $(DATA) --split $(SPLIT) --config $(RECIPE) --adapter $(R)/adapter -o $(R)/scores

same-recipe:
	@test $(GIVEN) != 1 || { echo 'DATA and SPLIT go together'; exit 2; }
	@mkdir -p $(R)
	@test -f $(R)/made-of || echo '$(MADE_OF)' > $(R)/made-of
	@test "$$(cat $(R)/made-of)" = '$(MADE_OF)' || \
	  { echo '$(R) is of other data or another recipe; choose another folder with R=...'; exit 2; }

$(R)/adapter/adapter_config.json: $(R)/base/model.safetensors | same-recipe $(DATA) $(SPLIT)
	$(BIN)/loracast finetune $(DATA) --split $(SPLIT) --config $(RECIPE) --model $(R)/base -o $(@D) \
	  $(if $(wildcard $(@D)/training.safetensors),--resume)

$(R)/base/model.safetensors: | same-recipe $(RUN)
	$(BIN)/loracast pretrain --config $(RECIPE) -o $(@D) $(if $(wildcard $(@D)/training.safetensors),--resume)

$(R)/data.h5: | $(RUN)
	mkdir -p $(@D)
	$(BIN)/loracast simulate predator-prey --n 1000 -o $@

$(R)/split.json: | $(RUN)
	mkdir -p $(@D)
	$(BIN)/python -c 'import json; rows = list(range(1000)); \
	  print(json.dumps({"train": rows[:700], "validation": rows[700:850], "test": rows[850:]}))' > $@

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fev,sktime,study,tensorboard]' --group check --group test
	touch $@

clean:
	rm -rf .venv runs
