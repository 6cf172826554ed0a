# make demo   bare checkout -> trained, judged, exported and running on the real CPU runtime
# make test   bare checkout -> lint, types, tests
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: install demo test quick lint bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,runtime]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/stoker demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m 'not slow'
	$(BIN)/pytest -m slow

quick: install
	$(BIN)/pytest -m 'not slow'

bench: install
	$(BIN)/stoker bench

clean:
	rm -rf $(VENV) runs build *.egg-info src/*.egg-info
