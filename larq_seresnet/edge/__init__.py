"""Runs `.tflite` files, Larq Compute Engine's included, without TensorFlow.

`Interpreter` takes and gives numpy arrays. It needs `ai-edge-litert` or `tflite-runtime`, and for
the operators of Larq Compute Engine the native delegate that is compiled when this package is
installed.

    from larq_seresnet.edge import Interpreter

    model = Interpreter("model.tflite", threads=4)
    probabilities = model.predict(images)

On the command line: `python -m larq_seresnet.edge classify | benchmark | info`.
"""

from larq_seresnet.edge.errors import ModelError, RuntimeMissingError
from larq_seresnet.edge.interpreter import Interpreter
from larq_seresnet.edge.tensors import TensorInfo

__all__ = ["Interpreter", "ModelError", "RuntimeMissingError", "TensorInfo"]
