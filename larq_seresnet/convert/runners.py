"""Runs `.tflite` files, each with the interpreter of its target."""

from collections.abc import Sequence

import numpy as np

from larq_seresnet.console import silence
from larq_seresnet.errors import ConversionError


def run(
    file: bytes, target: str, images: Sequence[np.ndarray], fixed: Sequence[np.ndarray] = ()
) -> list[np.ndarray]:
    """The file's outputs for all images, one after the other; one of each without images.

    Args:
        file: The `.tflite` file.
        target: "lce" runs LCE's interpreter, "litert" `ai_edge_litert`'s, "edge" this project's.
        images: For each input an array (images, ...).
        fixed: Of further inputs, which are the same for all images; "litert" alone takes them.

    Raises:
        ConversionError: The interpreter does not load or run the file.
    """
    try:
        with silence():
            if target == "litert":
                return _run_litert(file, images, fixed)
            return {"lce": _run_lce, "edge": _run_edge}[target](file, images)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConversionError(f"the {target} interpreter cannot run the file: {reason}") from error


def _run_lce(file: bytes, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(file)
    inputs = [x.astype(kind) for x, kind in zip(images, interpreter.input_types, strict=True)]
    outputs = interpreter.predict(inputs)
    return outputs if isinstance(outputs, list) else [outputs]


def _run_litert(
    file: bytes, images: Sequence[np.ndarray], fixed: Sequence[np.ndarray]
) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    for detail, values in zip(inputs[len(images) :], fixed, strict=True):
        interpreter.set_tensor(detail["index"], values)
    results = []
    for image in zip(*images, strict=True) if images else [()]:
        for detail, values in zip(inputs, image, strict=False):
            interpreter.set_tensor(detail["index"], values[None].astype(detail["dtype"]))
        interpreter.invoke()
        results.append([interpreter.get_tensor(index) for index in outputs])
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _run_edge(file: bytes, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    from larq_seresnet.edge import Interpreter

    interpreter = Interpreter(file)
    kinds = [info.dtype for info in interpreter.inputs]
    inputs = [x.astype(kind) for x, kind in zip(images, kinds, strict=True)]
    outputs = interpreter.predict(inputs if len(inputs) > 1 else inputs[0])
    return outputs if isinstance(outputs, list) else [outputs]
