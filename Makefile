# Every target creates .venv when it is missing and renews it when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST := .venv-oldest

.PHONY: install demo test test-all test-oldest lint docs bench format clean
.DEFAULT_GOAL := install

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	@touch $@

# The packages that effboost does not import itself are those of constraints.txt: without pins, pip
# would try hundreds of their versions, one by one.
$(OLDEST)/.ready: pyproject.toml constraints.txt constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	sed -n 's/^\([a-z].*==\).*/^\1/p' constraints-oldest.txt | grep -vif - constraints.txt > $(OLDEST)/others.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt \
		--constraint $(OLDEST)/others.txt --editable ".[all,dev]"
	@touch $@

demo: $(READY)
	$(BIN)/effboost demo --out effboost-demo

# Two workers with one thread each: faster than one worker with two on tiny images.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

# The slow ones, too: whole commands in processes, exports, the largest networks, the guide.
test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# The same with the lower bounds of pyproject.toml.
test-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/validate_docstrings.py

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check_site.py docs/_build/html

bench: $(READY)
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file --small; done

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OLDEST) docs/_build docs/api effboost-demo
