"""Runs a file on LiteRT with the native delegate, without the package's Interpreter."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate


def load(library: Path, file: bytes, threads: int = 1, kernels: str = "") -> Interpreter:
    options = {"num_threads": str(threads)} | ({"kernels": kernels} if kernels else {})
    delegate = load_delegate(str(library), options)
    return Interpreter(model_content=file, num_threads=threads, experimental_delegates=[delegate])


def invoke(interpreter: Interpreter, x: np.ndarray) -> np.ndarray:
    details = interpreter.get_input_details()[0]
    if tuple(details["shape"]) != x.shape:
        interpreter.resize_tensor_input(details["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def available_kernels(library: Path) -> list[str]:
    """The instruction sets that this CPU has."""
    names = []
    for name in ("portable", "avx2", "avx512", "neon"):
        try:
            load_delegate(str(library), {"kernels": name})
        except ValueError:
            continue
        names.append(name)
    return names
