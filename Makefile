# One environment (.venv) serves every command; what is there already is used again.
# The commands without make, for Windows: see the set-up page of the book.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH_PIN := $(shell grep -m1 '^torch==' requirements.txt)
# the address of a torch index, where the default would bring a CUDA build: see tools/check_torch.py
TORCH_INDEX ?=
NB ?=
URL ?=
WORKERS ?= 2
QUIET := OMP_NUM_THREADS=1 TQDM_DISABLE=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# a model's large arrays are otherwise mapped and unmapped at each step
ALLOCATOR := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=500000000

.PHONY: help book test execute lab serve lint bench leaderboard leaderboard-quick set-repository clean
.DEFAULT_GOAL := help

help:
	@echo "make book                     build both editions into _build/site (no torch, no models; minutes)"
	@echo "make test                     install everything, fetch models and data, build and prove all of it"
	@echo "make execute [NB=name]        run the chapters whose outputs are stale (or one), store their outputs"
	@echo "make lab                      JupyterLab with the chapters"
	@echo "make serve                    show _build/site on this machine"
	@echo "make lint                     ruff, mypy, codespell, the shape of the notebooks"
	@echo "make bench                    speed against peers, as ratios in one run"
	@echo "make leaderboard              measure every model under every protocol (hours; may be stopped and resumed)"
	@echo "make leaderboard-quick        measure the rows that take under 10 s, compare them with the file"
	@echo "make set-repository URL=...   write the repository's address where it belongs"
	@echo "make clean                    remove what was built (not the environment, not the cache)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: choose one by make PYTHON=python3.11" % v)'
	@$(PYTHON) -m venv $(VENV) || (echo "python3-venv is missing: sudo apt install python3-venv" && exit 1)

$(VENV)/.book: requirements.txt requirements-book.txt | $(BIN)/python
	@echo "Installing what rendering needs (about a minute) ..."
	@$(PIP) -c requirements.txt -r requirements-book.txt
	@touch $@

$(VENV)/.full: requirements.txt pyproject.toml | $(VENV)/.book
	@$(BIN)/python tools/check_torch.py "$(TORCH_PIN)" $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)")
	@echo "Installing everything (a few minutes) ..."
	@$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH_PIN)"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

book: $(VENV)/.book
	@$(BIN)/python tools/build_site.py

test: $(VENV)/.full
	@$(BIN)/python -m recsys_lib.resources fetch
	@$(BIN)/python tools/build_site.py
	@$(QUIET) $(BIN)/python -m pytest tests notebooks/en $$($(BIN)/python tools/rotation.py) \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=900 -n $(WORKERS) --dist loadfile -q \
	  --cov=recsys_lib --cov-report=term:skip-covered --cov-fail-under=95 --durations=15

execute: $(VENV)/.full
	@$(ALLOCATOR) $(BIN)/python tools/execute.py $(NB)

lab: $(VENV)/.full
	@$(ALLOCATOR) $(BIN)/jupyter lab notebooks

serve:
	@test -f _build/site/index.html || (echo "Nothing is built yet: make book" && exit 1)
	@echo "http://localhost:8000 (Ctrl-C ends it)"
	@cd _build/site && $(abspath $(BIN))/python -m http.server 8000 --bind 127.0.0.1

lint: $(VENV)/.full
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/python tools/check_notebooks.py

bench: $(VENV)/.full
	@$(QUIET) $(BIN)/python -m benchmarks

leaderboard: $(VENV)/.full
	@$(BIN)/python -m recsys_lib.resources fetch
	@$(QUIET) $(ALLOCATOR) $(BIN)/python -m benchmarks.leaderboard

leaderboard-quick: $(VENV)/.full
	@$(BIN)/python -m recsys_lib.resources fetch
	@$(QUIET) $(ALLOCATOR) $(BIN)/python -m benchmarks.leaderboard --quick --check

set-repository: $(VENV)/.book
	@$(BIN)/python tools/set_repository.py "$(URL)"

clean:
	@rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
