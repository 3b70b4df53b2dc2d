# The edge runtime's targets; the Makefile includes this file.

PYTHON ?= python3
CC ?= cc
WHEELS ?= dist
EDGE := larq_seresnet/edge
EDGE_FLAGS := -std=c11 -O3 -ffp-contract=off -fPIC -shared -fvisibility=hidden -pthread -Wall -Wextra
EDGE_LIBRARY := $(EDGE)/liblarq_seresnet_delegate.so

.PHONY: edge-library wheel-aarch64

# The native delegate in place, for running from a checkout.
edge-library: $(EDGE_LIBRARY)

$(EDGE_LIBRARY): $(wildcard $(EDGE)/native/*.c $(EDGE)/native/*.h)
	$(CC) $(EDGE_FLAGS) -o $@ $(filter %.c,$^) -lm

# A wheel for 64-bit ARM, cross-compiled: needs gcc-aarch64-linux-gnu.
wheel-aarch64:
	@command -v aarch64-linux-gnu-gcc >/dev/null || \
	  { echo "error: apt-get install gcc-aarch64-linux-gnu" >&2; exit 1; }
	CC=aarch64-linux-gnu-gcc _PYTHON_HOST_PLATFORM=linux-aarch64 \
	  $(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir $(WHEELS) .
