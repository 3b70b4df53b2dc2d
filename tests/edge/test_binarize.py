"""Binary convolutions in files of builtin operators run on the delegate, with the same bits."""

import numpy as np
import pytest
from flatbuffers import flexbuffers

from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.binarize import binarize
from larq_seresnet.edge.flexbuffer import read_numbers, write_numbers
from larq_seresnet.edge.fuse import fuse
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants
from tests.edge.running import invoke, load
from tools.edge.lce_files import RELU, SAME, Graph
from tools.edge.seed_files import binary_layer, options, signs

RANDOM = np.random.default_rng(0)


def names(file: bytes) -> list[str]:
    return [operator.name for operator in ModelFile(file).subgraphs[0].operators]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"activation": RELU},
        {"bias": 7},
        {"stride": (2, 2), "channels": 16},
        {"kernel": (1, 1), "outside": None, "channels": 70},
        {"kernel": (2, 3), "outside": None, "channels": 3},
        {"kernel": (3, 2), "dilation": (2, 1)},
    ],
    ids=str,
)
def test_a_binary_layer_is_equal_to_the_last_bit(library, fields):
    file = binary_layer(**fields)
    binary = binarize(unpack_constants(ModelFile(file))).data
    assert names(binary) == ["LceQuantize", "LceBconv2d"]
    x = RANDOM.normal(size=(1, 6, 5, fields.get("channels", 20))).astype(np.float32)
    x[0, 0, 0, :3] = 0, -0.0, -1
    expected = invoke(load(library, file), x)
    assert np.array_equal(invoke(load(library, binary), x), expected)
    assert np.array_equal(Interpreter(file).predict(x), expected)


def test_what_follows_a_binary_layer_is_joined_with_it(library):
    file = binary_layer(scaled=True)
    joined = fuse(binarize(unpack_constants(ModelFile(file))))
    assert names(joined) == ["LceQuantize", "EdgeBconv2d"]
    x = RANDOM.normal(size=(1, 6, 5, 20)).astype(np.float32)
    expected = invoke(load(library, file), x)
    assert np.array_equal(invoke(load(library, joined), x), expected)
    assert np.array_equal(Interpreter(file).predict(x), expected)


def test_a_dense_layer_of_one_pixel_is_equal_to_the_last_bit(library):
    graph = Graph()
    x, y = graph.tensor((1, 1, 1, 33)), graph.tensor((1, 1, 1, 9))
    weights = graph.constant(RANDOM.choice([-1, 1], (9, 33)).astype(np.float32))
    made = options("FullyConnected", keepNumDims=True)
    graph.builtin("FULLY_CONNECTED", [signs(graph, x), weights, -1], y, made)
    file = graph.finish([x], [y])
    assert names(binarize(unpack_constants(ModelFile(file))).data) == ["LceQuantize", "LceBconv2d"]
    values = RANDOM.normal(size=(4, 1, 1, 33)).astype(np.float32)
    expected = np.concatenate([invoke(load(library, file), v[None]) for v in values])
    assert np.array_equal(Interpreter(file).predict(values), expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": 2},
        {"weight": 0},
        {"bias": 0.5},
        {"bias": 3, "activation": RELU},
        {"activation": 3},
        {"bias": 2.0**23},
        {"outside": 0},
        {"pads": [(2, 2), (1, 1)]},
        {"pads": [(0, 2), (1, 1)]},
        {"outside": None, "padding": SAME},
        {"threshold": 0.5},
        {"high": -1, "low": 1},
        {"low": 0},
    ],
    ids=str,
)
def test_what_is_not_binary_stays(fields):
    file = binary_layer(**fields)
    assert binarize(unpack_constants(ModelFile(file))).data == file


def test_options_are_written_as_flatbuffers_reads_them():
    values = {"b": -1, "a": 2**31 - 1, "channels_in": 7, "c": 0, "d": -(2**31)}
    content = write_numbers(values)
    assert flexbuffers.Loads(bytearray(content)) == values
    assert read_numbers(content) == {key.encode(): value for key, value in values.items()}


def test_signs_that_others_read_stay(library):
    graph = Graph()
    x = graph.tensor((1, 4, 4, 8))
    sign = signs(graph, x)
    result = graph.builtin("ADD", [sign, x], graph.tensor((1, 4, 4, 8)), options("Add"))
    file = graph.finish([x], [result])
    assert binarize(unpack_constants(ModelFile(file))).data == file


def test_without_the_library_a_file_of_builtin_operators_runs(library, monkeypatch, tmp_path):
    file = binary_layer(activation=RELU)
    x = RANDOM.normal(size=(1, 6, 5, 20)).astype(np.float32)
    expected = Interpreter(file).predict(x)
    monkeypatch.setenv("LARQ_SERESNET_DELEGATE", str(tmp_path / "missing.so"))
    assert np.array_equal(Interpreter(file).predict(x), expected)
