"""Constant subgraphs are computed on loading, and the rest of the file stays as it is."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as LiteRT

from larq_seresnet.edge import ModelError
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants
from tests.edge.running import invoke
from tools.edge.lce_files import Conv, Graph
from tools.edge.packed_files import TARGETS, packed_conv


def unpacked(content: bytes) -> bytes:
    return unpack_constants(ModelFile(content)).data


def run(content: bytes, x: np.ndarray) -> np.ndarray:
    return invoke(LiteRT(model_content=content), x)


def operators(content: bytes) -> list[str]:
    return [operator.name for operator in ModelFile(content).subgraphs[0].operators]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("channels", "kernel"), [(3, 3), (32, 1), (45, 3)])
def test_a_packed_filter_becomes_a_constant(target, scaled, channels, kernel):
    packed, plain = packed_conv(target, channels=channels, kernel=kernel, scaled=scaled)
    content = unpacked(packed)
    assert operators(content) == ["CONV_2D"]
    x = np.random.default_rng(0).normal(size=(1, 16, 16, channels)).astype(np.float32)
    assert np.array_equal(run(content, x), run(plain, x))


def test_litert_evaluates_the_same_without_unpacking():
    packed, _ = packed_conv("litert", channels=45)
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 45)).astype(np.float32)
    np.testing.assert_allclose(run(unpacked(packed), x), run(packed, x), rtol=1e-5, atol=1e-4)


def test_xnnpack_takes_the_unpacked_convolution():
    # It takes a convolution only if its filter is a constant.
    packed, _ = packed_conv("litert")
    names = []
    for content in (packed, unpacked(packed)):
        interpreter = LiteRT(model_content=content)
        interpreter.allocate_tensors()
        names.append([op["op_name"] for op in interpreter._get_ops_details()])
    assert "DELEGATE" in names[1]
    assert len(names[1]) == 2  # the convolution, replaced by the delegate


def test_a_file_without_constant_subgraphs_is_left_alone():
    file = Conv().file()
    assert unpacked(file) is file


def test_the_rest_of_the_file_survives():
    packed, _ = packed_conv("litert", metadata=b'{"labels": ["a"]}', dynamic_batch=True)
    before = schema.ModelT.InitFromObj(schema.Model.GetRootAs(packed))
    after = schema.ModelT.InitFromObj(schema.Model.GetRootAs(unpacked(packed)))
    assert after.version == before.version == 3
    assert [m.name for m in after.metadata] == [m.name for m in before.metadata]
    old, new = before.subgraphs[0], after.subgraphs[0]
    assert list(new.inputs) == list(old.inputs)
    assert list(new.outputs) == list(old.outputs)
    assert [t.name for t in new.tensors] == [t.name for t in old.tensors]
    assert list(new.tensors[0].shapeSignature) == [-1, 16, 16, 3]
    assert vars(new.operators[-1].builtinOptions) == vars(old.operators[-1].builtinOptions)
    assert list(new.operators[-1].inputs) == list(old.operators[-1].inputs)


def _single(name, values, shape, options=None, dtype="float32"):
    graph = Graph()
    x, y, z = graph.tensor(shape), graph.tensor(shape, dtype), graph.tensor(shape)
    graph.builtin(name, [graph.constant(v) for v in values], y, options)
    graph.builtin("ADD", [x, y], z, schema.AddOptionsT())
    return graph.finish([x], [z])


def _options(kind, **values):
    options = getattr(schema, f"{kind}OptionsT")()
    for key, value in values.items():
        setattr(options, key, value)
    return options


CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CASES = {
    "transpose": ("TRANSPOSE", [CUBE, np.array([2, 0, 1], np.int32)], (4, 2, 3), None),
    "slice": (
        "SLICE",
        [CUBE, np.array([0, 1, 1], np.int32), np.array([2, -1, 2], np.int32)],
        (2, 2, 2),
        None,
    ),
    "concatenation": ("CONCATENATION", [CUBE, CUBE], (2, 6, 4), _options("Concatenation", axis=1)),
    "gather": (
        "GATHER",
        [CUBE, np.array([[1, 0], [2, 2]], np.int32)],
        (2, 2, 2, 4),
        _options("Gather", axis=1),
    ),
    "broadcast_to": (
        "BROADCAST_TO",
        [CUBE[:, :1], np.array([2, 3, 4], np.int32)],
        (2, 3, 4),
        _options("BroadcastTo"),
    ),
    "sub": ("SUB", [CUBE, CUBE[:1] + 1], (2, 3, 4), _options("Sub")),
    "add": ("ADD", [CUBE, CUBE[:, :1]], (2, 3, 4), _options("Add")),
    "squeeze": ("SQUEEZE", [CUBE[None]], (2, 3, 4), _options("Squeeze", squeezeDims=[0])),
    "expand_dims": ("EXPAND_DIMS", [CUBE, np.array(0, np.int32)], (1, 2, 3, 4), None),
}


@pytest.mark.parametrize("case", CASES)
def test_each_operator_is_evaluated_as_litert_does(case):
    name, values, shape, options = CASES[case]
    file = _single(name, values, shape, options)
    content = unpacked(file)
    assert operators(content) == ["ADD"]
    x = np.zeros(shape, np.float32)
    assert np.array_equal(run(content, x), run(file, x))


@pytest.mark.parametrize("name", ["SPLIT", "SPLIT_V"])
@pytest.mark.parametrize("axis", [1, -2])
def test_each_part_of_a_split_becomes_a_constant(name, axis):
    graph = Graph()
    axis_tensor, value = graph.constant(np.array(axis, np.int32)), graph.constant(CUBE)
    sizes, inputs, options = [1, 1, 1], [axis_tensor, value], _options("Split", numSplits=3)
    if name == "SPLIT_V":
        sizes, options = [2, 1], _options("SplitV", numSplits=2)
        inputs = [value, graph.constant(np.array(sizes, np.int32)), axis_tensor]
    parts = [graph.tensor((2, size, 4)) for size in sizes]
    graph.builtin(name, inputs, parts[0], options)
    graph.graph.operators[-1].outputs = np.array(parts, np.int32)
    x, y = graph.tensor((1, 1, 1)), graph.tensor((2, sizes[-1], 4))
    graph.builtin("ADD", [x, parts[-1]], y, schema.AddOptionsT())
    file = graph.finish([x], [y, parts[0]])
    content = unpacked(file)
    assert operators(content) == ["ADD"]
    x_value = np.ones((1, 1, 1), np.float32)
    assert np.array_equal(run(content, x_value), run(file, x_value))


def test_an_activation_is_not_lost():
    file = _single("MUL", [CUBE - 9, CUBE], (2, 3, 4), _options("Mul", fusedActivationFunction=1))
    content = unpacked(file)
    assert operators(content) == ["MUL", "ADD"]  # left to the runtime
    assert run(content, np.zeros((2, 3, 4), np.float32)).min() == 0


def test_what_contradicts_its_declared_shape_is_left_to_the_runtime():
    file = _single("TRANSPOSE", [CUBE, np.array([2, 0, 1], np.int32)], (2, 3, 4))
    assert operators(unpacked(file)) == ["TRANSPOSE", "ADD"]


def test_a_small_file_cannot_ask_for_all_memory():
    packed, _ = packed_conv("litert", channels=45)
    with pytest.raises(ModelError, match="unpacking"):
        unpack_constants(ModelFile(packed), max_bytes=1000)


def test_a_constant_that_is_an_output():
    graph = Graph()
    y = graph.tensor((4, 2, 3))
    inputs = [graph.constant(CUBE), graph.constant(np.array([2, 0, 1], np.int32))]
    graph.builtin("TRANSPOSE", inputs, y)
    x, z = graph.tensor((1,)), graph.tensor((1,))
    graph.builtin("ADD", [x, x], z, schema.AddOptionsT())
    content = unpacked(graph.finish([x], [y, z]))
    assert np.array_equal(run(content, np.ones(1, np.float32)), CUBE.transpose(2, 0, 1))
