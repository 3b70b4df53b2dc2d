"""Rounds the kernels that stay float, so that `pack` can store them in fewer bytes.

In networks whose first and last layers are not binarized these are most of the file. This is the
one step that changes what a network computes.
"""

import numpy as np

from larq_seresnet.convert.graph import Graph, Tensor
from larq_seresnet.convert.pack import OVERHEAD, float_kernels

FLOAT_WEIGHTS = ("float16", "int8")
_LARGEST = 127


def round_kernels(graph: Graph, kind: str) -> dict[Tensor, np.ndarray]:
    """Round, in place, all kernels that packing would leave in float32.

    Args:
        graph: As `pack` takes it.
        kind: "float16", or "int8": multiples of a step of each output channel, of which 127 make
            the channel's largest magnitude.

    Returns:
        The steps of each kernel, for `pack`.
    """
    steps = {}
    kernels = [item for part in graph.parts() for item in float_kernels(part).items()]
    for tensor, axis in kernels:
        kernel = np.asarray(tensor.data)
        if kernel.nbytes - kernel.size * np.dtype(kind).itemsize <= OVERHEAD:
            continue
        if kind == "float16":
            if np.abs(kernel).max() < np.finfo(np.float16).max:
                tensor.data = kernel.astype(np.float16).astype(np.float32)
            continue
        others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
        largest = np.abs(kernel).max(axis=others, keepdims=True)
        step = np.where(largest, largest / np.float32(_LARGEST), np.float32(1))
        tensor.data = np.rint(kernel / step) * step
        steps[tensor] = step.ravel()
    return steps
