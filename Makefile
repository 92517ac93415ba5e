# make quickstart   train, translate and score the example
# make test         install what the tests need, and run them
# make test-fast    the tests that start no process and take no seconds
# make check        lint, types and tests: what continuous integration runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/travel

.PHONY: quickstart test test-fast lint types check reference clean

quickstart: $(VENV)/.installed
	$(BIN)/nmt train configs/quickstart.yaml
	$(BIN)/nmt translate $(RUN) -i examples/travel/test.es.gz -o $(RUN)/test.en
	@gzip -dc examples/travel/test.es.gz > $(RUN)/test.es
	@gzip -dc examples/travel/test.en.gz > $(RUN)/test.reference.en
	@echo "Ten translations of the test set:"
	@paste $(RUN)/test.es $(RUN)/test.reference.en $(RUN)/test.en | head -n 10 | \
		awk -F '\t' '{ printf "\n  source      %s\n  reference   %s\n  hypothesis  %s\n", $$1, $$2, $$3 }'
	@echo
	@echo "The whole test set:"
	$(BIN)/nmt evaluate --hypotheses $(RUN)/test.en --reference $(RUN)/test.reference.en
	@echo "This text is generated: copying the nearest training sentence would give a BLEU of 64."
	@$(BIN)/python -c "import ctranslate2" 2>/dev/null || \
		echo 'To start in a second, by CTranslate2: $(BIN)/python -m pip install -e ".[ctranslate2]", and make quickstart again'
	@echo 'Try: echo "¿Dónde está la estación?" | $(BIN)/nmt translate $(RUN)'

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

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
	@echo "Installing into $(VENV): some hundred megabytes, the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
