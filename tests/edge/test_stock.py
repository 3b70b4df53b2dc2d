"""The delegate in a stock interpreter, where nobody has looked at the file before."""

import threading

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate

from tests.edge.lce_files import Conv, Graph, pack
from tests.edge.running import invoke, load


def two_convs(first: int, second: int) -> bytes:
    """Two layers of that many filters write one tensor."""
    graph = Graph()
    x = graph.tensor((1, 4, 4, 2), "int32")
    y = graph.tensor((1, 4, 4, first))
    for filters in (first, second):
        case = Conv(channels=64, filters=filters, size=(4, 4))
        inputs = [x, graph.constant(pack(case.weights()))]
        inputs += [graph.constant(values) for values in case.affine()]
        graph.custom("LceBconv2d", [*inputs, -1], y, case.options())
    return graph.finish([x], [y])


@pytest.mark.parametrize(("first", "second"), [(8, 512), (512, 8), (1, 4096)])
def test_two_layers_with_one_output(library, first, second):
    interpreter = load(library, two_convs(first, second))
    x = np.zeros((1, 4, 4, 2), np.int32)

    with pytest.raises(RuntimeError, match="a tensor's memory or shape changed"):
        invoke(interpreter, x)


@pytest.mark.parametrize("what", ["constant", "variable"])
@pytest.mark.parametrize("operator", ["LceDequantize", "LceQuantize", "LceBMaxPool2d"])
@pytest.mark.parametrize("fed", ["by a constant", "by the input"])
def test_an_output_that_is_not_the_runtimes(library, operator, what, fed):
    graph = Graph()
    source, target = ("float32", "int32") if operator == "LceQuantize" else ("int32", "float32")
    if operator == "LceBMaxPool2d":
        target = "int32"
    channels = {"float32": 64, "int32": 2}
    shape = (1, 4, 4, channels[source])
    x = graph.tensor(shape, source)
    if fed == "by a constant":
        x = graph.constant(np.zeros(shape, source))
    out = (1, 4, 4, channels[target])
    y = graph.constant(np.ones(out, target)) if what == "constant" else graph.tensor(out, target)
    if what == "variable":
        graph.graph.tensors[y].isVariable = True
    options = {"filter_height": 2, "filter_width": 2, "padding": 0}
    options |= {"stride_height": 1, "stride_width": 1}
    graph.custom(operator, [x], y, options if operator == "LceBMaxPool2d" else b"")
    interpreter = load(library, graph.finish([x], [y]))

    with pytest.raises(RuntimeError, match="the output tensor is a constant or a variable"):
        interpreter.allocate_tensors()


def test_a_delegate_that_two_interpreters_share_on_two_threads(library):
    case = Conv(channels=256, filters=256, size=(16, 16))
    delegate = load_delegate(str(library), {"num_threads": "2"})
    expected = invoke(load(library, case.file()), case.example())
    results: list[np.ndarray] = []

    def work():
        interpreter = Interpreter(model_content=case.file(), experimental_delegates=[delegate])
        results.extend(invoke(interpreter, case.example()) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 150
    assert all(np.array_equal(result, expected) for result in results)
