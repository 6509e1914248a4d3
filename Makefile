# Every target makes its own virtual environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo prompts test test-slow lint mutation

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev,metrics]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python scripts/demo.py --out demo

# The packaged model's pictures of two hundred prompts, and what a judge reads in them; the first time, half an
# hour for the judge.
JUDGE := prompts/judge_emoji_worlds.safetensors

$(JUDGE): | $(READY)
	$(BIN)/python scripts/train_judges.py emoji-worlds --out prompts

prompts: $(READY) $(JUDGE)
	$(BIN)/python scripts/prompt_bench.py --judge $(JUDGE) --out prompts

test: $(READY)
	$(BIN)/python -m pytest -q -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell sgxl_t docs configs data *.md

# Which changes of a formula no test notices: docs/experiments/mutation.md.
mutation: $(READY)
	$(BIN)/python -m pip install --quiet 'mutmut>=3.8,<4'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py
