"""Numpy in, numpy out: runs a `.tflite` file on LiteRT or tflite-runtime."""

import ctypes
import importlib
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError, RuntimeMissingError
from larq_seresnet.edge.model_file import LCE_OPERATORS, ModelFile
from larq_seresnet.edge.native_library import native_library
from larq_seresnet.edge.unpack import unpack_constants

MAX_THREADS = 64

# Examples that run at once where the file's batch size is free. All of a data set in one batch
# would need memory for all of its activations.
_BATCH = 32


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Attributes:
        name: Its name in the file.
        shape: Its sizes; -1 is one that is free.
        dtype: Its numpy type.
        scale: For integers that stand for real numbers, `real = scale * (integer - zero_point)`;
            0 for others.
        zero_point: See `scale`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int


class Interpreter:
    """A loaded model.

    Values go in and come out as they are: what the file declares as int8 is int8 here. Packed
    weights are unpacked once, on loading. Several threads may call `predict`; they wait for each
    other.

    Args:
        model: The path of a `.tflite` file, or its bytes. Both plain TensorFlow Lite models and
            those of Larq Compute Engine are understood.
        threads: How many CPU threads an inference uses.

    Raises:
        ModelError: The file is damaged or cannot be run.
        OSError: The file cannot be read.
        RuntimeMissingError: There is no TFLite runtime, or the file needs the native delegate and
            it was not compiled.

    Example:
        >>> model = Interpreter("model.tflite")
        >>> model.predict(np.zeros((1, 32, 32, 3), np.float32)).shape
        (1, 10)
    """

    def __init__(self, model: str | os.PathLike[str] | bytes, threads: int = 1) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads must be from 1 to {MAX_THREADS}, not {threads}")
        content = bytes(model) if isinstance(model, bytes | bytearray | memoryview) else None
        data = Path(os.fspath(model)).read_bytes() if content is None else content  # type: ignore[arg-type]
        file = ModelFile(data)
        self.metadata: dict[str, Any] = file.metadata
        self._lock = threading.Lock()
        self._runtime = _create_runtime(unpack_constants(file), threads)
        self.inputs = [_info(details) for details in self._runtime.get_input_details()]
        self.outputs = [_info(details) for details in self._runtime.get_output_details()]
        self._shapes = [info.shape for info in _declared(self._runtime.get_input_details())]
        if any(0 in shape for shape in self._shapes):
            raise ModelError("the model cannot be run: an input has a size of zero")
        self._allocate(self._shapes, force=True)

    @property
    def labels(self) -> list[str]:
        """The names of the classes; empty where the file does not tell them."""
        return list(self.metadata.get("labels", []))

    @property
    def input_range(self) -> tuple[float, float]:
        """The values that the model takes for a black and a white pixel."""
        low, high = self.metadata.get("input_range", (0, 255))
        return low, high

    def predict(self, x: Any) -> Any:
        """Runs the model.

        Args:
            x: An array of the input's shape, or a batch: an array whose first axis is longer than
                the model's. Where the model has several inputs, a list of such arrays in the order
                of `inputs`, or a mapping by name. Numbers of a float input may be of any type.

        Returns:
            The output, or a list of outputs where there are several. The first axis of a batch's
            output is the batch's.

        Raises:
            TypeError: The values cannot become the input's type without loss.
            ValueError: A shape does not fit.
        """
        arrays = [
            _as_input(value, info)
            for value, info in zip(self._in_order(x), self.inputs, strict=True)
        ]
        with self._lock:
            outputs = self._run_batch(arrays)
        return outputs[0] if len(outputs) == 1 else outputs

    def _in_order(self, x: Any) -> Sequence[Any]:
        if isinstance(x, Mapping):
            missing = [info.name for info in self.inputs if info.name not in x]
            if missing or len(x) != len(self.inputs):
                names = ", ".join(info.name for info in self.inputs)
                raise ValueError(f"the model's inputs are named {names}")
            return [x[info.name] for info in self.inputs]
        if len(self.inputs) == 1:
            return [x]
        if not isinstance(x, list | tuple) or len(x) != len(self.inputs):
            raise ValueError(f"the model takes a list of {len(self.inputs)} arrays")
        return x

    def _run_batch(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        if any(0 in array.shape[1:] for array in arrays):
            raise ValueError(_shape_message(arrays, self.inputs))
        if all(
            _fits(array.shape, info.shape) for array, info in zip(arrays, self.inputs, strict=True)
        ):
            free = all(info.shape and info.shape[0] == -1 for info in self.inputs)
            counts = {array.shape[0] for array in arrays} if free else set()
            if len(counts) != 1 or counts == {1}:
                return self._run(arrays)
            return self._run_parts(arrays, counts.pop(), 1, _BATCH)
        native = {info.shape[0] for info in self.inputs if info.shape}
        counts = {array.shape[0] for array in arrays if array.ndim}
        is_batch = all(
            info.shape and array.ndim == len(info.shape) and _fits(array.shape[1:], info.shape[1:])
            for array, info in zip(arrays, self.inputs, strict=True)
        )
        if not is_batch or len(native) != 1 or len(counts) != 1:
            raise ValueError(_shape_message(arrays, self.inputs))
        step, count = native.pop(), counts.pop()
        if step < 1 or count % step:
            raise ValueError(_shape_message(arrays, self.inputs))
        return self._run_parts(arrays, count, step, step)

    def _run_parts(
        self, arrays: list[np.ndarray], count: int, native: int, step: int
    ) -> list[np.ndarray]:
        """Runs `count` examples, `step` at a time; the model's own batch size is `native`."""
        if not count:
            shapes = [(native, *array.shape[1:]) for array in arrays]
            probe = self._run([np.zeros(s, a.dtype) for s, a in zip(shapes, arrays, strict=True)])
            return [_without_examples(output, native) for output in probe]
        parts = [
            self._run([array[start : start + step] for array in arrays])
            for start in range(0, count, step)
        ]
        # An output without a batch axis is stacked on a new one.
        return [
            np.concatenate(outputs)
            if outputs[0].ndim and len(outputs[0]) == min(step, count)
            else np.stack(outputs)
            for outputs in zip(*parts, strict=True)
        ]

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        self._allocate([array.shape for array in arrays])
        runtime = self._runtime
        for details, array in zip(runtime.get_input_details(), arrays, strict=True):
            runtime.set_tensor(details["index"], array)
        _translate_errors(runtime.invoke)
        return [runtime.get_tensor(details["index"]) for details in runtime.get_output_details()]

    def _allocate(self, shapes: list[tuple[int, ...]], *, force: bool = False) -> None:
        if shapes == self._shapes and not force:
            return
        if shapes != self._shapes:
            self._shapes = []  # until it is known that these work
            for details, shape in zip(self._runtime.get_input_details(), shapes, strict=True):
                self._runtime.resize_tensor_input(details["index"], shape)
        _translate_errors(self._runtime.allocate_tensors)
        self._shapes = shapes


def _without_examples(output: np.ndarray, native: int) -> np.ndarray:
    has_axis = output.ndim and len(output) == native
    return np.empty((0, *output.shape[1:]) if has_axis else (0, *output.shape), output.dtype)


def _create_runtime(content: bytes, threads: int) -> Any:
    module = find_runtime()
    graphs = ModelFile(content).subgraphs
    names = {operator.name for graph in graphs for operator in graph.operators}
    delegates = []
    if names & set(LCE_OPERATORS):
        library = str(native_library())
        try:
            ctypes.CDLL(library)  # tells what is wrong with it; load_delegate does so less well
            delegates = [module.load_delegate(library, {"num_threads": str(threads)})]
        except (OSError, ValueError) as error:
            message = f"the native library {library} cannot be loaded: {_one_line(error)}"
            raise RuntimeMissingError(message) from None
    return _translate_errors(
        lambda: module.Interpreter(
            model_content=content, num_threads=threads, experimental_delegates=delegates
        )
    )


def find_runtime() -> ModuleType:
    """The module of the TFLite runtime that is installed.

    Raises:
        RuntimeMissingError: There is none that works.
    """
    problems = []
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:
            if error.name != package:
                problems.append(f"{package}: {error}")
        except ImportError as error:
            problems.append(f"{package} does not work here: {_one_line(error)}")
        else:
            if package == "tflite_runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
                # It imports, and fails when it loads a model.
                problems.append("tflite-runtime works with numpy < 2 only")
                continue
            return module
    found = f" ({'; '.join(problems)})" if problems else ""
    raise RuntimeMissingError(f"no TFLite runtime was found{found}: pip install ai-edge-litert")


def _translate_errors(call: Callable[[], Any]) -> Any:
    """The runtime reports what is wrong with a model as RuntimeError or ValueError."""
    try:
        return call()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the model cannot be run: {_one_line(error)}") from None
    except MemoryError:
        raise ModelError("the model cannot be run: it needs more memory than there is") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _declared(details: list[dict[str, Any]]) -> list[TensorInfo]:
    """The inputs with the shapes that they start out with."""
    return [_info({**d, "shape_signature": d["shape"]}) for d in details]


def _info(details: dict[str, Any]) -> TensorInfo:
    signature = details.get("shape_signature", details["shape"])
    shape = signature if len(signature) == len(details["shape"]) else details["shape"]
    scale, zero_point = details["quantization"]
    return TensorInfo(
        name=details["name"],
        shape=tuple(int(size) for size in shape),
        dtype=np.dtype(details["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether a shape is the declared one, of which -1 is any size."""
    return len(shape) == len(declared) and all(
        size == wanted or wanted == -1 for size, wanted in zip(shape, declared, strict=True)
    )


def _shape_message(arrays: list[np.ndarray], inputs: list[TensorInfo]) -> str:
    given = ", ".join(str(array.shape) for array in arrays)
    wanted = ", ".join(str(info.shape) for info in inputs)
    return f"input of shape {given} does not fit the model's {wanted} (nor a batch of such)"


def _as_input(value: Any, info: TensorInfo) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == info.dtype:
        return np.ascontiguousarray(array) if array.ndim else array
    number = array.dtype.kind in "biuf"
    if info.dtype.kind == "f" and number:
        return np.ascontiguousarray(array, info.dtype) if array.ndim else array.astype(info.dtype)
    # Python's own numbers come without a type that one could mean.
    untyped = not isinstance(value, np.ndarray | np.generic)
    if info.dtype.kind in "iu" and array.dtype.kind in "iu" and untyped and array.size:
        limits = np.iinfo(info.dtype)
        if limits.min <= array.min() and array.max() <= limits.max:
            return array.astype(info.dtype)
    if number and np.can_cast(array.dtype, info.dtype, "safe"):
        return array.astype(info.dtype)
    raise TypeError(
        f"input '{info.name}' is {info.dtype.name}, and {array.dtype.name} does not convert to it "
        "without loss"
    )


def quantize(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """Real numbers as the input `info` wants them."""
    if info.dtype.kind == "f" or not info.scale:
        limited = values
    else:
        limits = np.iinfo(info.dtype)
        limited = np.clip(np.rint(values / info.scale) + info.zero_point, limits.min, limits.max)
    return limited.astype(info.dtype)


def dequantize(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """The real numbers that the output `info` stands for."""
    if info.dtype.kind == "f" or not info.scale or math.isnan(info.scale):
        return values
    return (values.astype(np.float32) - info.zero_point) * np.float32(info.scale)
