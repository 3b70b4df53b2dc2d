"""How much memory a model needs, and how much there is."""

import math
import os
import sys
from collections.abc import Sequence

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.model_file import Subgraph


def require_memory(subgraph: Subgraph, sizes: Sequence[int]) -> None:
    """Refuses what the machine cannot hold.

    Args:
        subgraph: What is to be run.
        sizes: Of each of its tensors, in bytes.

    Raises:
        ModelError: The tensors that are alive at the same time need more than the memory.
    """
    needed, available = _peak(subgraph, sizes), _memory()
    if needed > available:
        raise ModelError(
            f"the model cannot be run: it needs {needed >> 20:,} MiB of memory for its tensors, "
            f"and this machine has {int(available) >> 20:,} MiB"
        )


def _peak(subgraph: Subgraph, sizes: Sequence[int]) -> int:
    """The largest sum of tensors of which each is computed already and still to be used."""
    last_use = {i: n for n, operator in enumerate(subgraph.operators) for i in operator.inputs}
    constants = {i for i, tensor in enumerate(subgraph.tensors) if tensor.is_constant}
    kept = {i for i, tensor in enumerate(subgraph.tensors) if tensor.is_variable}
    kept = (kept | set(subgraph.inputs) | set(subgraph.outputs)) - constants
    alive = peak = sum(sizes[i] for i in kept)
    for number, operator in enumerate(subgraph.operators):
        alive += sum(sizes[i] for i in operator.outputs if i not in kept)
        peak = max(peak, alive)
        used = {i for i in (*operator.inputs, *operator.outputs) if i >= 0} - kept - constants
        alive -= sum(sizes[i] for i in used if last_use.get(i, number) == number)
    return peak


def _memory() -> float:
    """The bytes that this process may use at most; infinite where the system does not tell."""
    try:
        import resource

        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = min(total, sys.maxsize)  # what 32 bits can address
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except (ImportError, AttributeError, OSError, ValueError):
        return math.inf
    return total if limit == resource.RLIM_INFINITY else min(total, limit)
