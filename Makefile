# make quickstart   train, translate and score the example
# make test         install what the tests need, and run them
# make check        lint, types and tests: what continuous integration runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/travel

.PHONY: quickstart test lint types check reference clean

quickstart: $(VENV)/.installed
	$(BIN)/nmt train configs/quickstart.yaml
	$(BIN)/nmt translate $(RUN) -i examples/travel/test.es.gz -o $(RUN)/test.en
	@echo "Ten translations of the test set:"
	@gzip -dc examples/travel/test.es.gz | head -n 10 | paste -d '\n' - $(RUN)/test.en | head -n 20
	@echo "The whole test set:"
	$(BIN)/nmt evaluate --hypotheses $(RUN)/test.en --reference examples/travel/test.en.gz

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

check: lint types test

reference: $(VENV)/.installed
	$(BIN)/python -m nmt.config.reference

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed: setup.py nmt/version.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
