# make demo | make test | make fit ARGS="--fmb" | make lint | make wheel | make wheel-aarch64 | make clean

PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
ENVIRONMENT := .venv/installed
ARGS ?=
WORKERS ?= 2

.PHONY: demo test fit lint wheel clean

demo: $(ENVIRONMENT)
	$(BIN)/python -m training.fit --fmb --dataset digits --epochs 20 --batch-size 32 --out runs/demo $(ARGS)

test: $(ENVIRONMENT)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

fit: $(ENVIRONMENT)
	$(BIN)/python -m training.fit $(ARGS)

lint: $(ENVIRONMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

wheel: $(ENVIRONMENT)
	$(BIN)/python -m build --wheel

include edge.mk

clean:
	rm -rf .venv build dist *.egg-info

$(ENVIRONMENT): pyproject.toml constraints.txt setup.py $(wildcard larq_seresnet/edge/native/*)
ifeq ($(PYTHON),)
	$(error TensorFlow needs Python 3.10, 3.11 or 3.12, and none was found: install one, or name it: make PYTHON=/path/to/python3.11)
endif
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing TensorFlow and the other packages, about 2 GB; a few minutes"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,edge,test]'
	@touch $@
