"""The delegate in a stock interpreter, where nobody has looked at the file before."""

import re
import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate

from larq_seresnet.edge import Interpreter as EdgeInterpreter
from larq_seresnet.edge import RuntimeMissingError, native_library
from tests.edge.running import invoke, load
from tools.edge.lce_files import Conv, Graph, pack


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


@pytest.mark.parametrize("version", ["1.3.0", "2.4.0", "3.0.0.dev1"])
def test_a_runtime_of_unknown_structs_is_refused_where_the_delegate_is_needed(
    library, version, monkeypatch
):
    monkeypatch.setattr(native_library, "version_of", lambda package: version)

    with pytest.raises(RuntimeMissingError, match=rf"knows .* 2\.3, and {version} is installed"):
        EdgeInterpreter(Conv().file())


@pytest.mark.parametrize(
    ("package", "version"),
    [("ai_edge_litert", "1.4.0"), ("ai_edge_litert", "2.3.7"), ("tflite_runtime", "2.14.0")],
)
def test_runtimes_that_were_tried_are_taken(package, version, monkeypatch):
    monkeypatch.setattr(native_library, "version_of", lambda package: version)

    native_library.require_known(ModuleType(f"{package}.interpreter"))


@pytest.mark.slow
def test_there_is_no_newer_litert():
    command = [sys.executable, "-m", "pip", "index", "versions", "ai-edge-litert"]
    answer = subprocess.run(command, capture_output=True, text=True)
    newest = re.search(r"ai-edge-litert \((\d+)\.(\d+)", answer.stdout)
    if not newest:
        pytest.skip("the package index cannot be asked")
    if tuple(map(int, newest.groups())) > native_library.KNOWN["ai_edge_litert"][1]:
        pytest.skip(f"LiteRT {'.'.join(newest.groups())} is out: try it, then raise KNOWN")
