"""Files that are wrong, or small and costly: each is refused with a reason, or costs little."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.edge import Interpreter, ModelError, memory
from larq_seresnet.edge.__main__ import main
from larq_seresnet.edge.flatbuffer import Table
from larq_seresnet.edge.model_file import ModelFile
from tools.edge.lce_files import Graph
from tools.edge.packed_files import classifier, conv_options, packed_conv
from tools.edge.seed_files import number, one, ones, options, strings, variables

ADD = schema.AddOptionsT
REAL = np.zeros((1, 4), np.float32)


def refuse(content: bytes, message: str, **options) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Interpreter(content, **options)
    assert str(caught.value).isprintable()


def doubled(**change) -> bytes:
    """y = x + x; the changes are made to the graph before it is written."""
    graph = Graph()
    x, y = graph.tensor((1, 4)), graph.tensor((1, 4))
    graph.builtin("ADD", [x, x], y, ADD())
    graph.graph.tensors[x].name = change.get("name", "x")
    for key, value in change.get("tensor", {}).items():
        setattr(graph.graph.tensors[change.get("index", x)], key, value)
    if "change" in change:
        change["change"](graph)
    return graph.finish([x], [y])


def test_a_tensor_has_one_source():
    graph = Graph()
    x, y, spare = (graph.tensor((1, 4)) for _ in range(3))
    constant = graph.constant(REAL)
    variable = graph.tensor((1, 4))
    graph.graph.tensors[variable].isVariable = True
    cases = [
        ([([x, x], y), ([x, x], y)], [y], "computes tensor 't1' a second time"),
        ([([x, x], constant)], [constant], "computes tensor 't3' which has a value already"),
        ([([x, x], x)], [x], "computes tensor 't0' which has a value already"),
        ([([x, x], variable)], [variable], "computes tensor 't4' which has a value already"),
        ([([x, spare], y)], [y], "uses tensor 't2' before it is computed"),
        ([([x, spare], y), ([x, x], spare)], [y], "uses tensor 't2' before it is computed"),
        ([([x, y], y)], [y], "uses tensor 't1' before it is computed"),
        ([([x, x], y)], [y, spare], "output 't2' is never computed"),
    ]
    for operators, outputs, message in cases:
        graph.graph.operators = []
        for inputs, output in operators:
            graph.builtin("ADD", inputs, output, ADD())
        refuse(graph.finish([x], outputs), message)
    graph.graph.operators = []
    graph.builtin("ADD", [x, constant], y, ADD())
    refuse(graph.finish([x, constant], [y]), "input 't3' is a constant")
    none = graph.tensor((0,), "string")
    refuse(graph.finish([x], [y, none]), f"output 't{none}' is never computed")
    a, b = Interpreter(graph.finish([x], [y, x])).predict(np.ones((1, 4)))
    assert np.array_equal(a, b)


def calls(callees: list[int], operator: str = "IF") -> bytes:
    """Subgraphs of which number i calls number callees[i], or nothing where that is -1."""
    options = {
        "IF": schema.IfOptionsT,
        "WHILE": schema.WhileOptionsT,
        "CALL_ONCE": schema.CallOnceOptionsT,
    }[operator]
    graph = Graph()
    subgraphs = []
    for callee in callees:
        graph.graph = schema.SubGraphT()
        graph.graph.tensors, graph.graph.operators = [], []
        condition, x = graph.tensor((1,), "bool"), graph.tensor((1,))
        graph.graph.inputs, graph.graph.outputs = [condition, x], [x]
        if callee >= 0:
            y = graph.tensor((1,))
            entry = options()
            for field in vars(entry):
                setattr(entry, field, callee)
            graph.builtin(operator, [condition, x], y, entry)
            graph.graph.outputs = [y]
        subgraphs.append(graph.graph)
    graph.model.subgraphs = subgraphs
    builder = flatbuffers.Builder(1024)
    builder.Finish(graph.model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("operator", ["IF", "WHILE", "CALL_ONCE"])
def test_subgraphs_that_call_themselves(operator):
    refuse(calls([0], operator), "calls itself")
    refuse(calls([1, 2, 0], operator), "calls itself")
    refuse(calls([7], operator), "runs a subgraph that is missing")
    refuse(calls([*range(1, 100), -1], operator), "too deeply")


def test_calls_that_multiply():
    refuse(calls([*range(1, 30), -1]), "too deeply or too often")  # IF prepares both: 2 ** 29


def test_control_flow_without_options():
    graph = Graph()
    condition, x, y = graph.tensor((1,), "bool"), graph.tensor((1,)), graph.tensor((1,))
    graph.builtin("IF", [condition, x], y)
    refuse(graph.finish([condition, x], [y]), "IF does not say what it runs")


def single(name, options, constants, shape, output, *, dtype="float32", order=None) -> bytes:
    graph = Graph()
    x, y = graph.tensor(shape, dtype), graph.tensor(output, dtype)
    inputs = [x, *(graph.constant(value) for value in constants)]
    graph.builtin(name, [inputs[i] for i in order] if order else inputs, y, options)
    return graph.finish([x], [y])


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize("value", [-5, 4, 100, 2**30, -(2**31), 2**31 - 1])
def test_constant_indices_out_of_range(value):
    gather, reducer = schema.GatherOptionsT(), schema.ReducerOptionsT()
    index = integers(value)
    refuse(single("GATHER", gather, [index], (4, 3), (1, 3)), "GATHER has an index out of range")
    lookup = single("EMBEDDING_LOOKUP", None, [index], (4, 3), (1, 3), order=[1, 0])
    refuse(lookup, "EMBEDDING_LOOKUP has an index out of range")
    for name in ("MEAN", "SUM", "REDUCE_MAX"):
        refuse(single(name, reducer, [index], (4, 3), (3,)), f"{name} has an axis out of range")
    refuse(single("TRANSPOSE", None, [integers(value, 0)], (4, 3), (3, 4)), "axis out of range")
    gather.axis = value
    refuse(single("GATHER", gather, [integers(0)], (4, 3), (1, 3)), "an axis out of range")
    for name, order in (("BROADCAST_TO", None), ("FILL", [1, 0])):
        file = single(name, None, [integers(value, 3)], (), (5, 3), order=order)
        refuse(file, f"{name} has an output of another shape")


def test_indices_that_are_in_range_run():
    gather = schema.GatherOptionsT()
    model = Interpreter(single("GATHER", gather, [integers(3, 0)], (4, 3), (2, 3)))
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(model.predict(x), x[[3, 0]])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ["ADD", "SUB", "EQUAL", "CONV_2D", "FULLY_CONNECTED"])
def test_integers_without_the_scale_that_kernels_read(name, dtype):
    shape, options = (1, 4), None
    value = np.ones(shape, dtype)
    if name == "CONV_2D":
        shape, value, options = (1, 4, 4, 1), np.ones((1, 3, 3, 1), dtype), conv_options()
    file = single(name, options, [value], shape, shape, dtype=dtype)
    refuse(file, f"{name} has integers without a scale")


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e38, math.nan, math.inf])
def test_scales_that_kernels_cannot_compute_with(scale):
    graph = Graph()
    x = graph.tensor((1, 4), "int8", scale=1.0)
    y = graph.tensor((1, 4), "int8", scale=scale)
    z = graph.tensor((1, 4), "int8", scale=1.0)
    graph.builtin("ADD", [x, y], z, ADD())
    refuse(graph.finish([x, y], [z]), "scales are out of range")


def test_several_scales_where_kernels_take_one():
    def change(model) -> None:
        model.subgraphs[0].tensors[0].quantization.scale = np.array([0.5, 0.5], np.float32)
        model.subgraphs[0].tensors[0].quantization.zeroPoint = np.array([0, 0])

    graph = Graph()
    x, y = (graph.tensor((1, 2), "int8", scale=1.0) for _ in range(2))
    graph.builtin("ADD", [x, x], y, ADD())
    refuse(changed(graph.finish([x], [y]), change), "ADD has integers with several scales")


def test_windows_and_radii_out_of_range():
    for value in (0, -1, -(2**31), 2**31 - 1):
        options = schema.Pool2DOptionsT()
        options.strideH = options.strideW = options.filterWidth = 1
        options.filterHeight = value
        file = single("AVERAGE_POOL_2D", options, [], (1, 4, 4, 1), (1, 4, 4, 1))
        refuse(file, "a window out of range")
    options = schema.LocalResponseNormalizationOptionsT()
    options.radius = -1
    name = "LOCAL_RESPONSE_NORMALIZATION"
    refuse(single(name, options, [], (1, 4, 4, 1), (1, 4, 4, 1)), "radius out of range")


@pytest.mark.parametrize("value", [-1, 4, 2**30])
def test_indices_of_every_operator_that_takes_constant_ones(value):
    index = integers(0, value)
    for name, inputs in (
        ("GATHER_ND", [(4, 3), index]),
        ("SCATTER_ND", [integers([0], [value]), (2, 3), integers(4, 3)]),
        ("SEGMENT_SUM", [(3, 3), integers(0, value, 1)]),
        ("REVERSE_SEQUENCE", [(2, 3), index]),
    ):
        kind = {"kind": "ReverseSequence", "seqDim": 1} if name == "REVERSE_SEQUENCE" else {}
        refuse(one(name, inputs, [(4, 3)], **kind), f"{name} has an index out of range")


def test_indices_that_runtimes_do_not_check_are_constant():
    inputs = [(4, 3), ("int32", (4,))]
    file = one("REVERSE_SEQUENCE", inputs, [(4, 3)], "ReverseSequence", seqDim=1)
    refuse(file, "lengths that are not constant")
    graph = Graph()
    x, y, z = graph.tensor((4, 1)), graph.tensor((4, 300)), graph.tensor((4, 300))
    graph.builtin("ADD", [x, x], y, ADD())
    inputs = [y, graph.constant(integers(1, 2, 3, 300))]
    graph.builtin("REVERSE_SEQUENCE", inputs, z, options("ReverseSequence", seqDim=1))
    refuse(graph.finish([x], [z]), "another shape than the file says")


@pytest.mark.parametrize("size", [0, 7, 2**30])
def test_an_output_has_the_shape_that_constants_give_it(size):
    index, zeros = ("int32", (2,)), integers([0, 0], [0, 0])
    for name, inputs, output in (
        ("PAD", [(2, 3), integers([0, size], [0, 0])], (4, 3)),
        ("MIRROR_PAD", [(2, 3), integers([0, size], [0, 0])], (4, 3)),
        ("TILE", [(2, 3), integers(size, 1)], (4, 3)),
        ("ONE_HOT", [index, number(size), ones(), ones()], (2, 3)),
        ("RANGE", [number(0), number(size), number(1)], ("int32", (3,))),
        ("UNSORTED_SEGMENT_SUM", [(4, 3), integers(0, 0, 0, 0), number(size)], (3, 3)),
        ("SPACE_TO_BATCH_ND", [(1, 4, 4, 2), integers(size, 2), zeros], (4, 2, 2, 2)),
        ("BATCH_TO_SPACE_ND", [(4, 2, 2, 2), integers(size, 2), zeros], (1, 4, 4, 2)),
        ("TRANSPOSE_CONV", [integers(1, size, 4, 3), ones(3, 2, 2, 2), (1, 2, 2, 2)], (1, 4, 4, 3)),
        ("RESHAPE", [(4, 3), integers(size, 6)], (2, 6)),
    ):
        message = "another shape than it declares|a constant that does not fit"
        refuse(one(name, inputs, [output], "OneHot" if name == "ONE_HOT" else ""), message)


def test_a_shape_that_unpacking_makes_is_looked_at_too():
    graph = Graph()
    sizes, cast = graph.constant(np.ones(31, np.uint8)), graph.tensor((31,), "int32")
    graph.builtin("CAST", [sizes], cast)
    x, y = graph.tensor((1,)), graph.tensor((1, 1))
    graph.builtin("RESHAPE", [x, cast], y)
    refuse(graph.finish([x], [y]), "RESHAPE has a constant that does not fit")


def test_axes_that_are_none_or_too_many():
    refuse(one("REVERSE_V2", [(4, 3), integers()], [(4, 3)]), "REVERSE_V2 has no axis")
    file = one("SUM", [(4, 3), integers(0, 0, 0)], [(3,)], "Reducer")
    refuse(file, "an axis out of range")


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "message"),
    [
        ("STRIDED_SLICE", [(4, 3)], [(4, 3)], "1 inputs and 1 outputs"),
        ("ADD", [(4, 3), (4, 3), (4, 3)], [(4, 3)], "3 inputs and 1 outputs"),
        ("CONV_2D", [(1, 4, 4, 1)], [(1, 4, 4, 1)], "1 inputs"),
        ("FULLY_CONNECTED", [(4, 3)], [(4, 3)], "1 inputs"),
        ("RELU", [(4, 3)], [(4, 3), (4, 3)], "1 inputs and 2 outputs"),
        ("UNPACK", [(2, 3)], [(3,), (3,)], "2 outputs instead of 0"),
        ("RESHAPE", [(4, 3), integers(2, 6)], [("bool", (2, 6))], "an output of type bool"),
        ("SEGMENT_SUM", [(2, 3), integers(0, 1)], [("int8", (2, 3))], "an output of type int8"),
        ("SOFTMAX", [(2, 4)], [("string", (2, 4))], "a tensor of type string"),
        ("SOFTMAX", [(2, 4)], [("bfloat16", (2, 4))], "an output of type bfloat16"),
        ("TANH", [("int8", (2, 4))], [("int4", (2, 4))], "an output of type int4"),
        ("SELECT", [("bool", (2,)), (2,), (2,)], [("int8", (2,))], "an output of type int8"),
        ("EQUAL", [(2, 4), (2, 4)], [(2, 4)], "an output of type float32"),
        ("MATRIX_DIAG", [("bool", (2, 3))], [("bool", (2, 3, 3))], "a tensor of type bool"),
    ],
)
def test_operators_of_another_form(name, inputs, outputs, message):
    refuse(one(name, inputs, outputs), f"{name} has {message}")


def test_options_of_another_operator_are_none():
    file = one("SPLIT", [number(0), (4, 3)], [(2, 3), (2, 3)], "SplitV", numSplits=2)
    refuse(file, "SPLIT has 2 outputs instead of 0")


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_input_that_an_operator_needs(place):
    inputs = [("int32", (2,)), number(3), ones(), ones()]
    graph = Graph()
    given = [graph.tensor((2,), "int32"), *(graph.constant(value) for value in inputs[1:])]
    given[place] = -1
    y = graph.builtin("ONE_HOT", given, graph.tensor((2, 3)), options("OneHot"))
    refuse(graph.finish([0], [y]), "an operator's tensor is missing")


def test_an_integer_convolution_that_needs_a_bias():
    graph = Graph()
    x, weights, y = (graph.tensor((1, 4, 4, 1), "int8", scale=1.0) for _ in range(3))
    graph.graph.tensors[weights].buffer = graph.buffer(bytes(16))
    graph.builtin("DEPTHWISE_CONV_2D", [x, weights], y, options("DepthwiseConv2D"))
    refuse(graph.finish([x], [y]), "DEPTHWISE_CONV_2D has no bias")


def changed(content: bytes, change) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_variable_keeps_its_shape():
    assert Interpreter(variables()).predict(np.zeros(1, np.float32)) == 1

    def reads_more(model) -> None:
        for tensor in model.subgraphs[0].tensors[1:3]:
            tensor.shape = integers(64)

    def assigns_less(model) -> None:
        reads_more(model)
        model.subgraphs[1].tensors[1].shape = integers(64)
        model.buffers[model.subgraphs[1].tensors[1].buffer].data = np.zeros(256, np.uint8)
        model.subgraphs[0].tensors[0].shape = integers(1)
        model.subgraphs[0].operators[3].inputs = integers(0, 0)

    refuse(changed(variables(), reads_more), "variable 'counter' has several shapes")
    refuse(changed(variables(), assigns_less), "another shape than the file says")


@pytest.mark.parametrize("name", ["VAR_HANDLE", "HASHTABLE"])
def test_a_handle_is_no_number(name):
    """It would be read as one, beyond its end."""
    graph = Graph()
    x, y = graph.tensor((1, 5)), graph.tensor((1, 5))
    made = "VarHandle" if name == "VAR_HANDLE" else "Hashtable"
    handle = graph.builtin(name, [], graph.tensor((1, 5)), options(made))
    graph.builtin("ADD", [x, handle], y, options("Add"))
    refuse(graph.finish([x], [y]), f"{name} has an output of type float32")


@pytest.mark.parametrize(
    "head",
    [(4, 20, 23, 26, 30), (3, 20, 23, 26, 31), (3, 20, 26, 23, 30), (3, 16, 23, 26, 30), (3, 20)],
)
def test_strings_that_are_not_laid_out_as_such(head):
    assert Interpreter(strings()).outputs[0].dtype.kind == "S"

    def change(model) -> None:
        data = np.array(head, np.int32).tobytes()
        text = b"catdogfish" if len(head) > 2 else b""
        model.buffers[model.subgraphs[0].tensors[0].buffer].data = [*data, *text]

    refuse(changed(strings(), change), "tensor 't0' is not laid out as strings")


def detection(**fields) -> bytes:
    found = [(1, 2, 4), (1, 2), (1, 2), (1,)]
    made = {"max_detections": 2, "max_classes_per_detection": 1, "num_classes": 2}
    made |= {"nms_score_threshold": 0.1, "nms_iou_threshold": 0.5}
    made |= {f"{axis}_scale": 5.0 for axis in "yxhw"} | fields
    inputs = [(1, 4, 4), (1, 4, 3), ones(4, 4)]
    return one("TFLite_Detection_PostProcess", inputs, found, **made)


def test_options_of_the_runtimes_own_custom_operators():
    assert len(Interpreter(detection()).outputs) == 4
    for value in (-1, 2**31, math.nan):
        refuse(detection(max_classes_per_detection=value), "an option out of range")
    for value in ("a", [1, 2], {"a": 1}):
        refuse(detection(num_classes=value), "an operator's options are no numbers")
    refuse(detection(**{f"key{i}": i for i in range(200)}), "an operator's options are no numbers")

    def cut(length: int):
        def change(model) -> None:
            operator = model.subgraphs[0].operators[0]
            operator.customOptions = operator.customOptions[-length:] if length else None

        return change

    for length in (0, 1, 2, 3, 10, 30):
        refuse(changed(detection(), cut(length)), "an operator's options are no numbers")

    def elsewhere(model) -> None:
        model.subgraphs[0].operators[0].largeCustomOptionsOffset = 1 << 40

    refuse(changed(detection(), elsewhere), "options behind the FlatBuffer")


def test_a_variable_that_an_operator_takes_twice():
    def change(model) -> None:
        model.subgraphs[0].operators[3].inputs = integers(1, 1)

    assert Interpreter(changed(variables(), change)).predict(np.zeros(1, np.float32)) == 2


@pytest.mark.parametrize("rank", [33, 65, 1000])
def test_more_dimensions_than_numpy_has(rank):
    refuse(doubled(tensor={"shape": np.ones(rank, np.int32)}), f"has {rank} dimensions")


@pytest.mark.parametrize("kind", [13, 14, 18, 19, 22, 100])
def test_types_that_are_not_numpys(kind):
    def change(graph):
        for tensor in graph.graph.tensors:
            tensor.type = kind

    refuse(doubled(change=change), "type")


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;pwned\x07", b"\xff\xfe", "\u202egnp.exe", "a\nb"])
def test_names_are_escaped_wherever_they_are_printed(name, tmp_path, capsys):
    path = tmp_path / "model.tflite"
    label = name if isinstance(name, str) else name.decode(errors="replace")
    metadata = json.dumps({"labels": [label], label: {label: label}}).encode()

    def change(graph):
        graph.metadata("larq_seresnet", metadata)

    path.write_bytes(doubled(name=name, change=change))
    model = Interpreter(path)
    assert np.array_equal(model.predict(np.ones((1, 4))), 2 * np.ones((1, 4)))
    for command in ("info", "benchmark"):
        assert main([command, str(path), *(["--runs", "1"] if command == "benchmark" else [])]) == 0
        assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
        assert main([command, str(path), "--json"]) == 0
        json.loads(capsys.readouterr().out)
    with pytest.raises(TypeError) as caught:
        model.predict(np.full((1, 4), "text"))
    assert str(caught.value).isprintable()


def test_custom_operators_names_are_escaped(capfd, tmp_path):
    graph = Graph()
    x, y = graph.tensor((1, 4)), graph.tensor((1, 4))
    graph.custom("\x1b[2Jbad", [x], y)
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.finish([x], [y]))
    refuse(path.read_bytes(), r"x1b\[2Jbad")
    for command in ("info", "benchmark"):
        main([command, str(path)])
    captured = capfd.readouterr()
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(
    "text",
    [
        b'{"input_range": [0, ' + b"9" * 400 + b"]}",
        b'{"input_range": [0, ' + b"9" * 5000 + b"]}",
        b'{"input_range": [-1e308, 1e308]}',
        b'{"input_range": [0, 1e400]}',
        b'{"input_range": [false, true]}',
        b'{"input_range": ["a", "b"]}',
        b'{"input_range": null}',
        b'{"a": NaN}',
        b'{"a": [1, -Infinity]}',
        b'{"a": 1e999}',
        b'{"labels": {"a": 1}}',
        b'{"labels": ["\xff"]}',
        b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a":' * 100_000,
        b"null",
        b"\0",
    ],
)
def test_metadata_that_are_none(text, tmp_path, capsys):
    content = classifier(text)
    refuse(content, "metadata")
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for command in (["info"], ["benchmark"], ["info", "--json"]):
        assert main([command[0], str(path), *command[1:]]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        named = f"{path}: " if command == ["benchmark"] else ""  # which takes several
        assert captured.err.startswith(f"error: {named}the ")


def test_every_command_refuses_a_file_cut_off_anywhere(tmp_path, capsys):
    content = packed_conv("litert", metadata=b'{"labels": ["a"]}')[0]
    path = tmp_path / "model.tflite"
    for part in range(50):
        path.write_bytes(content[: len(content) * part // 50])
        for command in (["info"], ["benchmark"], ["classify"]):
            picture = ["a.png"] if command == ["classify"] else []
            assert main([*command, str(path), *picture]) == 1
            captured = capsys.readouterr()
            assert captured.out == ""
            assert len(captured.err.splitlines()) == 1
            assert len(captured.err) > len("error: \n")


def test_paths_that_are_no_files(tmp_path, capsys):
    closed = tmp_path / "closed"
    os.mkfifo(closed)
    for path in (tmp_path, tmp_path / "none", closed, "/dev/zero", "a\0b", ""):
        for command in (["info"], ["benchmark"]):
            assert main([*command, str(path)]) == 1
            assert capsys.readouterr().err.startswith("error: ")


def shared(field: str, count: int, size: int) -> bytes:
    """Many tensors that refer to one large name, shape or list of scales."""
    builder = flatbuffers.Builder(1 << 20)
    values = {
        "name": lambda: builder.CreateString("a" * size),
        "shape": lambda: builder.CreateNumpyVector(np.ones(8, np.int32)),
        "signature": lambda: builder.CreateNumpyVector(np.ones(size // 4, np.int32)),
        "scales": lambda: builder.CreateNumpyVector(np.ones(size // 4, np.float32)),
    }
    value = values[field]()
    if field == "scales":
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, value)
        value = schema.QuantizationParametersEnd(builder)
    schema.TensorStart(builder)
    add = {
        "name": schema.TensorAddName,
        "shape": schema.TensorAddShape,
        "signature": schema.TensorAddShapeSignature,
        "scales": schema.TensorAddQuantization,
    }[field]
    add(builder, value)
    tensor = schema.TensorEnd(builder)

    def vector(offset: int, number: int) -> int:
        builder.StartVector(4, number, 4)
        for _ in range(number):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    schema.BufferStart(builder)
    buffers = vector(schema.BufferEnd(builder), 1)
    tensors = vector(tensor, count)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraphs = vector(schema.SubGraphEnd(builder), 900 if field == "shape" else 1)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("field", ["name", "shape", "signature", "scales"])
def test_what_many_tensors_share_is_not_read_over_and_over(field):
    content = shared(field, 20_000, 100_000)
    start = time.perf_counter()
    refuse(content, "uses the same bytes over and over")
    assert time.perf_counter() - start < 2


def test_a_table_with_a_large_layout_costs_no_more_than_a_small_one(monkeypatch):
    visited = []
    monkeypatch.setattr(Table, "__init__", counting(Table.__init__, visited))
    ModelFile(doubled())
    assert len(visited) < 20


def counting(function, calls: list):
    return lambda *arguments: calls.append(1) or function(*arguments)


def broadcast(name: str, size: int, options=None) -> bytes:
    graph = Graph()
    column, row = graph.constant(np.ones((size, 1), np.float32)), graph.constant(REAL[:, :1])
    inputs = [column, graph.constant(np.ones((1, 1024), np.float32))]
    if name in ("BROADCAST_TO", "TILE"):
        inputs = [row, graph.constant(integers(size * 1024, 1024 * 32))]
    large = graph.tensor(
        (size, 1024) if len(inputs) == 2 and name == "MUL" else (size * 1024, 32768)
    )
    graph.builtin(name, inputs, large, options)
    x, y = graph.tensor((1, 1)), graph.tensor(tuple(graph.graph.tensors[large].shape))
    graph.builtin("ADD", [large, x], y, ADD())
    return graph.finish([x], [y])


@pytest.mark.parametrize("name", ["MUL", "BROADCAST_TO", "TILE"])
def test_unpacking_has_a_budget(name):
    options = schema.MulOptionsT() if name == "MUL" else None
    refuse(broadcast(name, 1 << 15 if name == "MUL" else 4, options), "takes over 64 MiB")


def test_the_budget_of_unpacking_can_be_raised():
    content = packed_conv("litert", channels=45)[0]
    refuse(content, "takes over 0 MiB; max_unpacked_bytes", max_unpacked_bytes=1000)
    assert Interpreter(content, max_unpacked_bytes=1 << 20).inputs


def resized(declared: tuple[int, ...], size: int) -> bytes:
    graph = Graph()
    x, large, y = graph.tensor((1, 2, 2, 1)), graph.tensor(declared), graph.tensor((1,))
    options = schema.ResizeNearestNeighborOptionsT()
    sizes = graph.constant(integers(size, size))
    graph.builtin("RESIZE_NEAREST_NEIGHBOR", [x, sizes], large, options)
    reducer = schema.ReducerOptionsT()
    graph.builtin("MEAN", [large, graph.constant(integers(1, 2, 3))], y, reducer)
    return graph.finish([x], [y])


def test_an_arena_beyond_the_machine_is_refused_with_its_size(monkeypatch):
    refuse(resized((1, 2**20, 2**20, 1), 2**20), "needs 4,194,304 MiB of memory")
    refuse(resized((1, 4, 4, 1), 2**20), "another shape than it declares")
    model = Interpreter(packed_conv("litert", dynamic_batch=True)[0])
    monkeypatch.setattr(memory, "_memory", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"needs .* and this machine has 1 MiB"):
        model.predict(np.zeros((200, 16, 16, 3), np.float32))
    monkeypatch.undo()
    assert model.predict(np.zeros((2, 16, 16, 3), np.float32)).shape == (2, 16, 16, 8)


def test_what_the_runtime_makes_of_the_shapes_is_looked_at_too(monkeypatch):
    graph = Graph()
    x, y, z = graph.tensor((1024, 1)), graph.tensor((1, 1)), graph.tensor((1, 1))
    graph.builtin("ADD", [x, graph.constant(np.ones((1, 4096), np.float32))], y, ADD())
    graph.builtin("RELU", [y], z)  # 1024 x 4096, whatever the file says
    monkeypatch.setattr(memory, "_memory", lambda: 8 << 20)
    refuse(graph.finish([x], [z]), "needs 32 MiB|needs 16 MiB|needs 48 MiB")


SLOW = """
import sys, numpy as np, time
from larq_seresnet.edge import Interpreter
from tests.edge.test_untrusted import slow
model = Interpreter(slow())
print("ready", flush=True)
model.predict(np.zeros((1, 512, 512, 8), np.float32))
"""


def slow() -> bytes:
    """Averages over windows of half the image around each pixel: many seconds."""
    options = schema.Pool2DOptionsT()
    options.strideH = options.strideW = 1
    options.filterHeight = options.filterWidth = 1025
    options.padding = 0
    shape = (1, 512, 512, 8)
    graph = Graph()
    x = graph.tensor(shape)
    y = x
    for _ in range(20):
        x, y = y, graph.tensor(shape)
        graph.builtin("L2_POOL_2D", [x], y, options)
    return graph.finish([0], [y])


@pytest.mark.parametrize("command", ["predict", "benchmark"])
def test_ctrl_c_is_heard_during_an_inference(command, tmp_path):
    path = tmp_path / "slow.tflite"
    path.write_bytes(slow())
    code = SLOW if command == "predict" else None
    line = ["-c", code] if code else ["-m", "larq_seresnet.edge", "benchmark", str(path)]
    process = subprocess.Popen(
        [sys.executable, *line],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test suite in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        if code:
            assert process.stdout.readline() == "ready\n"
        time.sleep(1 if code else 5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)  # the inference takes minutes
    finally:
        process.kill()
    assert process.returncode in (130, -signal.SIGINT)
    assert ("KeyboardInterrupt" in errors) == (command == "predict")


def test_a_quick_inference_starts_no_thread(monkeypatch):
    model = Interpreter(classifier())
    x = np.zeros((1, 4, 4, 3), np.float32)
    model.predict(x)
    monkeypatch.setattr("larq_seresnet.edge.interpreter.threading.Thread", None)
    assert model.predict(x).shape == (1, 3)
