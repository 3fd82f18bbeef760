# Two commands. `make up` runs everything on this machine, `make test` proves it; both first set up what is missing.
#   make up ARGS="--http-port 9000"        make test ARGS="tests/ice -k nomination"

PYTHON ?= python3
ARGS ?=

.PHONY: up test

up:
	@$(PYTHON) tools/setup.py run
	@exec .venv/bin/voicegate up $(ARGS)

test:
	@$(PYTHON) tools/setup.py test
	@exec .venv/bin/python tools/run_tests.py $(ARGS)
