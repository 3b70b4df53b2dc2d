# The edge runtime's targets; the Makefile includes this file.

CC ?= cc
EDGE := larq_seresnet/edge
EDGE_FLAGS := -std=c11 -O3 -ffp-contract=off -fPIC -shared -fvisibility=hidden -pthread -Wall -Wextra
EDGE_LIBRARY := $(EDGE)/liblarq_seresnet_delegate.$(if $(filter Darwin,$(shell uname)),dylib,so)

.PHONY: edge-library

# The native delegate in place, for running from a checkout.
edge-library: $(EDGE_LIBRARY)

$(EDGE_LIBRARY): $(wildcard $(EDGE)/native/*.c $(EDGE)/native/*.h)
	$(CC) $(EDGE_FLAGS) -o $@ $(filter %.c,$^) -lm
