# make demo | make quick | make test | make fit ARGS="--fmb" | make lint | make docs | make lines
# make wheels | make clean

PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
ENVIRONMENT := .venv/installed
RELEASE := .venv/release
ARGS ?=
WORKERS ?= 2

.PHONY: demo quick test fit lint docs notebooks lines wheels clean

demo: $(ENVIRONMENT)
	$(BIN)/python -m training.fit --fmb --dataset digits --epochs 20 --batch-size 32 --out runs/demo $(ARGS)

test: $(ENVIRONMENT)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

# For every save: what needs no training.
quick: lint
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_layers.py tests/edge/test_unpack.py \
	  tests/edge/test_interpreter.py tests/experiments/test_paper.py tests/trainer/test_recipes.py

fit: $(ENVIRONMENT)
	$(BIN)/python -m training.fit $(ARGS)

lint: $(ENVIRONMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(ENVIRONMENT)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

notebooks: $(ENVIRONMENT)
	$(BIN)/python -m pytest -m '' tests/test_notebooks.py

# Of Python without tests, by room.
lines:
	@git ls-files '*.py' | grep -v ^tests/ | xargs wc -l | awk '$$2 != "total" { split($$2, p, "/"); \
	  room = p[3] ? p[1] "/" p[2] : p[2] ? p[1] : "."; n[room] += $$1; all += $$1 } \
	  END { for (room in n) print n[room], room; print all, "in all" }' | sort -n

# A release, into dist/: docs/releasing.md.
wheels: $(RELEASE)
	$(BIN)/python tools/wheels.py $(ARGS)

$(RELEASE): $(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	@touch $@

include edge.mk

clean:
	rm -rf .venv build dist site *.egg-info

$(ENVIRONMENT): pyproject.toml constraints.txt setup.py $(wildcard larq_seresnet/edge/native/*)
ifeq ($(PYTHON),)
	$(error training needs Python 3.11 or 3.12, and neither was found: install one, or name it: make PYTHON=/path/to/python3.11)
endif
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing TensorFlow and the other packages, about 2 GB; a few minutes"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,edge,test,docs]'
	@touch $@
