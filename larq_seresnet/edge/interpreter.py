"""Numpy in, numpy out: runs a `.tflite` file on LiteRT or tflite-runtime."""

import ctypes
import math
import operator
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from larq_seresnet.edge.binarize import binarize
from larq_seresnet.edge.checks import check, reached_subgraphs, trusted_tensors
from larq_seresnet.edge.errors import ModelError, RuntimeMissingError, one_line, printable
from larq_seresnet.edge.fuse import fuse, is_mostly_binary
from larq_seresnet.edge.memory import require_memory
from larq_seresnet.edge.model_file import NATIVE_OPERATORS, ModelFile, read_file
from larq_seresnet.edge.native_library import (
    can_delegate,
    chosen_kernels,
    find_runtime,
    native_library,
    require_known,
)
from larq_seresnet.edge.tensors import TensorInfo, as_input, dequantize, describe_tensors, fits
from larq_seresnet.edge.unpack import unpack_constants

MAX_THREADS = 64

# Examples that run at once where the file's batch size is free. All of a data set in one batch
# would need memory for all of its activations.
_BATCH = 32
# Below this no one minds that Ctrl-C is heard after an inference and not during it.
_QUICK_SECONDS = 0.1

_Result = TypeVar("_Result")


class Interpreter:
    """A loaded model.

    Packed weights are unpacked once, on loading. Several threads may call `predict`; they wait for
    each other.

    Args:
        model: The path of a `.tflite` file, or its bytes. Both plain TensorFlow Lite models and
            those of Larq Compute Engine are understood.
        threads: How many CPU threads an inference uses.
        signature: Which of the file's signatures to run; by default its first graph, as TensorFlow
            Lite does. `signatures` lists them.
        max_unpacked_bytes: How much memory the unpacked constants may take; by default 64 MiB, or
            256 times the file's size if that is more.

    Attributes:
        inputs: What `predict` takes, a `TensorInfo` each.
        outputs: What it gives, a `TensorInfo` each.
        signature: The name of the signature that runs; empty where the file does not name it.
        signatures: The names of all signatures.
        metadata: What this project's converter wrote about the model; empty for other files.

    Raises:
        ModelError: The file is damaged or cannot be run, or needs more memory than there is.
        OSError: The file cannot be read.
        RuntimeMissingError: There is no TFLite runtime, or the file needs the native delegate and
            it was not compiled.
        ValueError: The file has no such signature.

    Example:
        >>> model = Interpreter("model.tflite")
        >>> model.predict(np.zeros((1, 32, 32, 3), np.float32)).shape
        (1, 10)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        threads: int = 1,
        *,
        signature: str | None = None,
        max_unpacked_bytes: int | None = None,
    ) -> None:
        threads = int(operator.index(threads))  # numpy's integers, too
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads must be from 1 to {MAX_THREADS}, not {threads}")
        is_content = isinstance(model, bytes | bytearray | memoryview)
        file = ModelFile(bytes(model) if is_content else read_file(model))  # type: ignore[arg-type]
        check(file)
        self.metadata: dict[str, Any] = file.metadata
        self.signatures = [entry.key for entry in file.signatures]
        chosen = file.signature(signature)
        self.signature = chosen.key
        self._graph = graph = file.subgraphs[chosen.subgraph]
        self.inputs = describe_tensors(graph, graph.inputs, chosen.inputs)
        self.outputs = describe_tensors(graph, graph.outputs, chosen.outputs)
        self._shapes = [graph.tensors[index].shape for index in graph.inputs]
        if any(0 in shape for shape in self._shapes):
            raise ModelError("the model cannot be run: an input has a size of zero")
        reached = [file.subgraphs[index] for index in reached_subgraphs(file, chosen.subgraph)]
        for subgraph in reached:
            require_memory(subgraph, [tensor.nbytes for tensor in subgraph.tensors])
        unpacked = unpack_constants(file, chosen.subgraph, max_unpacked_bytes)
        loaded = unpacked.model
        if loaded is not file:
            check(loaded)  # there are more constants now
        needs_delegate = not NATIVE_OPERATORS.isdisjoint(unpacked.operators)
        joined = binarize(unpacked)
        content = fuse(joined)
        joined_names = {operator.name for part in joined.subgraphs for operator in part.operators}
        is_faster = content is not joined.data or not NATIVE_OPERATORS.isdisjoint(joined_names)
        if is_faster and not needs_delegate:
            needs_delegate = can_delegate()
            content = content if needs_delegate else unpacked.data
        is_binary = needs_delegate and is_mostly_binary(joined)
        self._create = lambda: _create_runtime(
            content, unpacked.operators, threads, needs_delegate=needs_delegate, is_binary=is_binary
        )
        self._has_variables = any(tensor.is_variable for tensor in graph.tensors)
        names = {operator.name for subgraph in reached for operator in subgraph.operators}
        self._has_resources = "ASSIGN_VARIABLE" in names
        self._trusted = trusted_tensors(graph)
        self._has_loops = not names.isdisjoint(("WHILE", "STABLEHLO_WHILE"))
        self._is_quick = False
        self._lock = threading.Lock()
        self._runtime = self._create()
        self._allocate(self._shapes, force=True)

    @property
    def labels(self) -> list[str]:
        """The names of the classes; empty where the file does not tell them."""
        return list(self.metadata.get("labels", []))

    @property
    def input_range(self) -> tuple[float, float]:
        """The values that the model takes for a black and a white pixel.

        Where the file does not tell, those that the integers of a quantized input stand for, or 0
        and 255.
        """
        low, high = self.metadata.get("input_range", (0, 255))
        info = self.inputs[0] if self.inputs else None
        if "input_range" not in self.metadata and info and info.is_quantized:
            limits = np.iinfo(info.dtype)
            low, high = ((x - info.zero_point) * info.scale for x in (limits.min, limits.max))
        return low, high

    def predict(self, x: Any, *, keep_state: bool = False) -> Any:
        """Runs the model.

        What the file declares as integers is so here: integers go in and come out as they are.
        Where real numbers are given for an input that is quantized, they are quantized by the
        input's scale and zero point, and quantized outputs come back as real numbers (float32).
        Those of a file whose inputs are all float stay integers.

        Batches: a file whose batch size is fixed runs as often as it takes, the last time on
        repetitions of the last example if need be. A file whose first size is free is run once, on
        what it is given: its first axis may be no batch, or its examples may depend on each other.
        Only files of this project's converter, of which neither is true, run 32 examples at a time.

        State (LSTMs that TensorFlow Lite fuses, variables): each run starts from the initial state,
        unless `keep_state` is set.

        Ctrl-C: an inference of over 0.1 s runs in a thread of its own, which takes below 0.1 ms to
        start, so that the main thread hears it. The inference itself cannot be stopped and goes on
        behind; the next call waits for it. So do the first one of each shape and all with loops.

        Args:
            x: An array of the input's shape, a batch of such (an array whose first axis is longer
                than the model's), or one example without its batch axis, which is a batch of one.
                Where the model has several inputs, a list of such arrays in the order of `inputs`,
                or a mapping by name. Numbers of a float input may be of any type.
            keep_state: Go on from the state that the last run left: for streams, in which a call
                brings the next examples, in their order.

        Returns:
            The output, or a list of outputs where there are several. The first axis of a batch's
            output is the batch's.

        Raises:
            ModelError: The runtime fails, or the batch needs more memory than there is.
            TypeError: The values cannot become the input's type without loss.
            ValueError: A shape does not fit, or NaN was given for a quantized input.
        """
        values = self._in_order(x)
        arrays = [as_input(v, info) for v, info in zip(values, self.inputs, strict=True)]
        is_real = any(
            info.is_quantized and np.asarray(value).dtype.kind == "f"
            for value, info in zip(values, self.inputs, strict=True)
        )
        stopped = threading.Event()

        def work() -> list[np.ndarray]:
            with self._lock:
                return self._run_batch(arrays, keep_state, stopped)

        if self._is_quick or threading.current_thread() is not threading.main_thread():
            outputs = work()
        else:
            outputs = _in_thread(work, stopped)
        if is_real:
            outputs = [dequantize(y, info) for y, info in zip(outputs, self.outputs, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs

    def reset(self) -> None:
        """Brings the state back to where it was when the model was loaded."""
        with self._lock:
            self._reset()

    def _in_order(self, x: Any) -> Sequence[Any]:
        if isinstance(x, Mapping):
            missing = [info.name for info in self.inputs if info.name not in x]
            if missing or len(x) != len(self.inputs):
                names = ", ".join(printable(info.name) for info in self.inputs)
                raise ValueError(f"the model's inputs are named {names}")
            return [x[info.name] for info in self.inputs]
        if len(self.inputs) == 1:
            return [x]
        if not isinstance(x, list | tuple) or len(x) != len(self.inputs):
            raise ValueError(f"the model takes a list of {len(self.inputs)} arrays")
        return x

    def _run_batch(
        self, arrays: list[np.ndarray], keep_state: bool, stopped: threading.Event
    ) -> list[np.ndarray]:
        arrays = self._with_batch_axis(arrays)
        declared = [info.shape for info in self.inputs]
        is_as_declared = _all_fit(arrays, declared)
        first = {shape[0] if shape else 0 for shape in declared}
        native = first.pop() if len(first) == 1 else 0  # the batch size; 0 where there is none
        counts = {len(array) if array.ndim else 0 for array in arrays}
        count = counts.pop() if len(counts) == 1 else 0
        is_free = is_as_declared and native == -1
        has_batch = native and _all_fit(arrays, [(-1, *shape[1:]) for shape in declared])
        is_batch = has_batch and not counts
        is_empty = any(0 in (array.shape[1:] if is_batch else array.shape) for array in arrays)
        if is_empty or not (is_as_declared or is_batch):
            given = ", ".join(str(array.shape) for array in arrays)
            wanted = ", ".join(str(shape) for shape in declared)
            raise ValueError(
                f"input of shape {given} does not fit the model's {wanted} (nor a batch of such)"
            )
        if is_batch and not count:
            return [_without_examples(info, native) for info in self.outputs]
        if is_as_declared and not (is_free and self.metadata and count > _BATCH):
            return self._run(arrays, keep_state)
        step = _BATCH if is_free else native
        parts = []
        for start in range(0, count, step):
            if stopped.is_set():
                raise KeyboardInterrupt
            part = [array[start : start + step] for array in arrays]
            if not is_free:
                part = [_padded(array, step) for array in part]
            parts.append(self._run(part, keep_state))
        return [self._joined(outputs, step, count) for outputs in zip(*parts, strict=True)]

    def _with_batch_axis(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        declared = [info.shape for info in self.inputs]
        has_batch = all(shape and shape[0] in (-1, 1) for shape in declared)
        if arrays and has_batch and _all_fit(arrays, [shape[1:] for shape in declared]):
            return [array[np.newaxis] for array in arrays]
        return arrays

    @staticmethod
    def _joined(outputs: Sequence[np.ndarray], step: int, count: int) -> np.ndarray:
        if outputs[0].ndim and len(outputs[0]) == step:
            return np.concatenate(outputs)[:count]
        if count % step:
            raise ValueError(f"the model takes multiples of {step} examples, not {count}")
        return np.stack(outputs)  # an output without a batch axis is stacked on a new one

    def _run(self, arrays: list[np.ndarray], keep_state: bool) -> list[np.ndarray]:
        self._allocate([array.shape for array in arrays])
        if not keep_state:
            self._reset()
        runtime = self._runtime
        start = time.perf_counter()
        for index, array in zip(self._graph.inputs, arrays, strict=True):
            _call(runtime.set_tensor, index, array)
        _call(runtime.invoke)
        outputs = [self._output(index) for index in self._graph.outputs]
        self._is_quick = time.perf_counter() - start < _QUICK_SECONDS and not self._has_loops
        return outputs

    def _output(self, index: int) -> np.ndarray:
        try:
            return _call(self._runtime.get_tensor, index)
        except ModelError:  # runtimes do not give an array without elements
            for details in self._runtime.get_output_details():
                if details["index"] == index and 0 in details["shape"]:
                    return np.empty(details["shape"], details["dtype"])
            raise

    def _reset(self) -> None:
        if self._has_resources:  # which a runtime keeps as long as it lives
            shapes = self._shapes
            self._runtime = self._create()
            self._shapes = [self._graph.tensors[index].shape for index in self._graph.inputs]
            self._allocate(shapes, force=True)
        elif self._has_variables:
            _call(self._runtime.reset_all_variables)

    def _allocate(self, shapes: list[tuple[int, ...]], *, force: bool = False) -> None:
        if shapes == self._shapes and not force:
            return
        if shapes != self._shapes:
            self._shapes = []  # until it is known that these work
            for index, shape in zip(self._graph.inputs, shapes, strict=True):
                _call(self._runtime.resize_tensor_input, index, shape)
        _call(self._runtime.allocate_tensors)
        # Only the runtime knows what the operators make of these shapes. Memory that it has
        # reserved and not written to yet takes none.
        sizes = [tensor.nbytes for tensor in self._graph.tensors]
        for details in _call(self._runtime.get_tensor_details):
            index, shape = details["index"], (*map(int, details["shape"]),)
            if index < len(sizes):
                sizes[index] = math.prod(shape) * np.dtype(details["dtype"]).itemsize
            if index in self._trusted and shape != self._graph.tensors[index].shape:
                name = self._graph.tensors[index].name
                raise ModelError(f"tensor '{name}' has another shape than the file says")
        require_memory(self._graph, sizes)
        self._shapes = shapes
        self._is_quick = False


def _in_thread(work: Callable[[], _Result], stopped: threading.Event) -> _Result:
    """Does `work` while the main thread waits for it and hears Ctrl-C."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)  # Windows hears Ctrl-C only between two waits
    except BaseException:
        stopped.set()
        raise
    if errors:
        raise errors[0]
    return results[0]


def _create_runtime(
    content: bytes, operators: list[str], threads: int, *, needs_delegate: bool, is_binary: bool
) -> Any:
    """An interpreter of LiteRT or tflite-runtime.

    XNNPACK's threads go on spinning for long after each of its operators. Where most of the work is
    the delegate's, they would take the cores from its threads, so XNNPACK gets one.
    """
    module = find_runtime()
    delegates = []
    if needs_delegate:
        require_known(module)
        library = str(native_library())
        try:
            ctypes.CDLL(library)  # tells what is wrong with it; load_delegate does so less well
            kernels = chosen_kernels()
            wanted = {"num_threads": str(threads)} | ({"kernels": kernels} if kernels else {})
            delegates = [module.load_delegate(library, wanted)]
        except (OSError, ValueError) as error:
            message = f"the native library {library} cannot be loaded: {one_line(error)}"
            raise RuntimeMissingError(message) from None
    options = {"num_threads": 1 if is_binary else threads, "experimental_delegates": delegates}
    if "VAR_HANDLE" in operators:  # XNNPACK writes beyond variables whose shapes a file misstates
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = plain
    return _call(module.Interpreter, model_content=content, **options)


def _call(function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
    """The runtime reports what is wrong with a model as RuntimeError or ValueError."""
    try:
        return function(*arguments, **options)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"the model cannot be run: {one_line(error)}") from None
    except MemoryError:
        raise ModelError("the model cannot be run: it needs more memory than there is") from None


def _all_fit(arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> bool:
    return all(fits(array.shape, shape) for array, shape in zip(arrays, shapes, strict=True))


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    """A batch of `size`, in which the last example is repeated if need be."""
    missing = size - len(array)
    return np.concatenate([array, array[-1:].repeat(missing, axis=0)]) if missing else array


def _without_examples(info: TensorInfo, native: int) -> np.ndarray:
    has_axis = info.shape and info.shape[0] in (native, 1)
    shape = info.shape[1:] if has_axis else info.shape
    return np.empty((0, *(max(0, size) for size in shape)), info.dtype)
