import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.edge import Interpreter, ModelError, RuntimeMissingError, native_library
from tools.edge.lce_files import Conv, Graph
from tools.edge.packed_files import TARGETS, classifier, packed_conv


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_it_imports_no_tensorflow():
    code = (
        "import sys, larq_seresnet.edge, larq_seresnet.edge.__main__\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(names & {'tensorflow', 'tf_keras', 'keras', 'larq', 'larq_compute_engine'}))"
    )
    assert python(code).stdout == "[]\n"


def test_a_file_of_larq_compute_engine(library, lce_interpreter, tmp_path):
    case = Conv(channels=70, filters=10)
    path = tmp_path / "model.tflite"
    path.write_bytes(case.file())
    expected = lce_interpreter(case.file()).predict(case.example())
    for model in (path, str(path), case.file(), bytearray(case.file())):
        assert np.array_equal(Interpreter(model).predict(case.example()), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_packed_weights_need_no_delegate(target, monkeypatch):
    monkeypatch.setenv("LARQ_SERESNET_DELEGATE", "/nowhere")
    packed, plain = packed_conv(target)
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    assert np.array_equal(Interpreter(packed).predict(x), Interpreter(plain).predict(x))


@pytest.mark.parametrize("dynamic_batch", [True, False])
@pytest.mark.parametrize("count", [1, 2, 32, 33, 70])
def test_a_batch_of_any_size(dynamic_batch, count):
    model = Interpreter(packed_conv("litert", dynamic_batch=dynamic_batch)[0])
    x = np.random.default_rng(0).normal(size=(count, 16, 16, 3)).astype(np.float32)
    y = model.predict(x)
    assert y.shape == (count, 16, 16, 8)
    for i in (0, count - 1):
        np.testing.assert_allclose(y[i], model.predict(x[i : i + 1])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dynamic_batch", [True, False])
def test_an_empty_batch(dynamic_batch):
    model = Interpreter(packed_conv("litert", dynamic_batch=dynamic_batch)[0])
    assert model.predict(np.zeros((0, 16, 16, 3), np.float32)).shape == (0, 16, 16, 8)


def test_batches_of_a_binary_network(library):
    case = Conv(channels=64, filters=10)
    model = Interpreter(case.file(), threads=2)
    x = np.concatenate([Conv(seed=seed).example() for seed in range(5)])
    singles = [model.predict(x[i : i + 1]) for i in range(5)]
    assert np.array_equal(model.predict(x), np.concatenate(singles))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int64, bool, np.float16])
def test_numbers_become_floats(dtype):
    model = Interpreter(classifier())
    x = np.random.default_rng(0).integers(0, 2, (1, 4, 4, 3))
    assert np.array_equal(model.predict(x.astype(dtype)), model.predict(x.astype(np.float32)))
    assert np.array_equal(model.predict(x.tolist()), model.predict(x.astype(np.float32)))


def test_integers_stay_what_they_are():
    model = Interpreter(classifier(integer=True))
    assert model.inputs[0].dtype == np.int8
    assert (model.inputs[0].scale, model.inputs[0].zero_point) == (1.0, -128)
    x = np.full((1, 4, 4, 3), 5, np.int8)
    assert np.array_equal(model.predict(x), np.full((1, 3), 5, np.int8))
    assert np.array_equal(model.predict(x.tolist()), np.full((1, 3), 5, np.int8))
    with pytest.raises(TypeError, match="is int8, and"):
        model.predict(x.astype(np.uint8))
    with pytest.raises(TypeError):
        model.predict((x.astype(int) + 300).tolist())


def test_integer_outputs_of_a_float_input_stay_integers(library, lce_interpreter):
    case = Conv(channels=33, output="int8")
    y = Interpreter(case.file()).predict(case.example())
    assert y.dtype == np.int8
    assert np.array_equal(y, lce_interpreter(case.file()).predict(case.example()))


@pytest.mark.parametrize(
    "shape", [(4, 3), (1, 4, 4, 1), (1, 5, 4, 3), (), (1, 1, 4, 4, 3), (2, 0, 4, 3)]
)
@pytest.mark.parametrize("model", ["fixed", "dynamic"])
def test_a_wrong_shape(shape, model):
    file = classifier() if model == "fixed" else packed_conv("litert", dynamic_batch=True)[0]
    with pytest.raises(ValueError, match="does not fit the model's"):
        Interpreter(file).predict(np.zeros(shape, np.float32))


def test_other_ranks_and_several_tensors():
    graph = Graph()
    a, b = graph.tensor((3,)), graph.tensor((2, 3))
    total, scalar = graph.tensor((2, 3)), graph.tensor(())
    graph.builtin("ADD", [a, b], total, schema.AddOptionsT())
    axes = graph.constant(np.array([0, 1], np.int32))
    graph.builtin("SUM", [total, axes], scalar, schema.ReducerOptionsT())
    model = Interpreter(graph.finish([a, b], [total, scalar]))
    x = [np.array([1, 2, 3]), np.ones((2, 3))]
    for value in (x, tuple(x), {"t0": x[0], "t1": x[1]}):
        total_value, scalar_value = model.predict(value)
        assert np.array_equal(total_value, x[0] + x[1])
        assert scalar_value == 18
    for wrong in (x[:1], x[0], {"t0": x[0]}, {"t0": x[0], "t1": x[1], "t2": x[0]}):
        with pytest.raises(ValueError, match=r"takes a list of 2|are named t0, t1"):
            model.predict(wrong)


def test_a_scalar():
    graph = Graph()
    x, y = graph.tensor(()), graph.tensor(())
    graph.builtin("ADD", [x, x], y, schema.AddOptionsT())
    assert Interpreter(graph.finish([x], [y])).predict(21) == 42


@pytest.mark.parametrize("kind", ["S", "U"])
def test_strings(kind):
    graph = Graph()
    x, y = graph.tensor((1, 2), "string"), graph.tensor((2,), "string")
    graph.builtin("RESHAPE", [x, graph.constant(np.array([2], np.int32))], y)
    model = Interpreter(graph.finish([x], [y]))
    result = model.predict(np.array([["cat", "and", "dog"]], kind)[:, ::2])
    assert result.tolist() == [b"cat", b"dog"]
    with pytest.raises(TypeError, match="is bytes"):
        model.predict([[None, 2]])


def test_a_result_without_elements():
    graph = Graph()
    x, y = graph.tensor((3,), "bool"), graph.tensor((1, 1), "int64", signature=(-1, 1))
    graph.builtin("WHERE", [x], y)
    model = Interpreter(graph.finish([x], [y]))
    for found in ([False, True, True], [False] * 3, [True, False, False]):
        assert np.array_equal(model.predict(found), np.argwhere(found))


def test_outputs_without_a_batch_axis_are_stacked():
    graph = Graph()
    x, y = graph.tensor((1, 6)), graph.tensor((6,))
    options = schema.SqueezeOptionsT()
    options.squeezeDims = [0]
    graph.builtin("SQUEEZE", [x], y, options)
    values = np.arange(18, dtype=np.float32).reshape(3, 6)
    assert np.array_equal(Interpreter(graph.finish([x], [y])).predict(values), values)


def test_metadata():
    model = Interpreter(classifier(b'{"labels": ["r", "g", "b"], "input_range": [-1, 1]}'))
    assert model.labels == ["r", "g", "b"]
    assert model.input_range == (-1, 1)
    assert Interpreter(classifier()).labels == []
    assert Interpreter(classifier()).input_range == (0, 255)


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"labels": "x"}',
        b'{"labels": [1]}',
        b'{"input_range": [1, 0]}',
        b'{"input_range": [0, NaN]}',
        b"[" * 100_000,
    ],
)
def test_broken_metadata(text):
    with pytest.raises(ModelError, match="metadata"):
        Interpreter(classifier(text))


def test_threads_may_share_an_interpreter(library):
    case = Conv()
    model = Interpreter(case.file(), threads=2)
    examples = [Conv(seed=seed).example() for seed in range(8)]
    expected = [model.predict(x) for x in examples]
    different = []

    def use() -> None:
        for x, y in zip(examples, expected, strict=True):
            if not np.array_equal(model.predict(x), y):
                different.append(1)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not different


def test_a_forked_child_can_go_on(library):
    """It has none of the parent's threads."""
    code = (
        "import os, numpy as np\n"
        "from larq_seresnet.edge import Interpreter\n"
        "from tools.edge.lce_files import Conv\n"
        "case = Conv(size=(64, 64))\n"
        "model = Interpreter(case.file(), threads=2)\n"
        "y = model.predict(case.example())\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    same = np.array_equal(model.predict(case.example()), y)\n"
        "    os._exit(0 if same else 1)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    assert python(code).stdout == "0\n"


def test_threads_take_no_time_between_inferences(library):
    """They look for new work for a while, and then sleep."""
    model = Interpreter(Conv(size=(64, 64)).file(), threads=2)
    model.predict(Conv(size=(64, 64)).example())
    time.sleep(0.1)
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.05


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux lists them")
@pytest.mark.parametrize("cpus", [1, 2])
def test_on_one_cpu_no_thread_is_started(library, cpus):
    available = sorted(os.sched_getaffinity(0))[:cpus]
    if len(available) < cpus:
        pytest.skip("needs two CPUs")
    code = (
        "import os, sys\n"
        f"os.sched_setaffinity(0, {available})\n"
        "from larq_seresnet.edge import Interpreter\n"
        "from tools.edge.lce_files import Conv\n"
        "def count(threads):\n"
        "    model = Interpreter(Conv().file(), threads=threads)\n"
        "    return len(os.listdir('/proc/self/task'))\n"
        "count(1)\n"
        "print(count(2) - count(1))\n"
    )
    assert python(code).stdout == f"{cpus - 1}\n"


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_an_impossible_number_of_threads(threads):
    with pytest.raises(ValueError, match="threads must be from 1 to 64"):
        Interpreter(classifier(), threads=threads)


def test_threads_are_a_whole_number_of_any_type(library):
    case = Conv()
    expected = Interpreter(case.file()).predict(case.example())
    for threads in (np.int64(2), True):
        assert np.array_equal(Interpreter(case.file(), threads).predict(case.example()), expected)
    for threads in (1.5, "2", None):
        with pytest.raises(TypeError, match="integer"):
            Interpreter(case.file(), threads)


def test_an_unknown_operator():
    graph = Graph()
    x, y = graph.tensor((1,)), graph.tensor((1,))
    graph.custom("Frobnicate", [x], y)
    with pytest.raises(ModelError, match="Frobnicate"):
        Interpreter(graph.finish([x], [y]))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Interpreter(tmp_path / "nothing.tflite")


def test_a_missing_library_is_told_with_what_to_do(monkeypatch):
    monkeypatch.delenv("LARQ_SERESNET_DELEGATE", raising=False)
    monkeypatch.setattr("larq_seresnet.edge.native_library.LIBRARY_NAME", "nothing.so")
    with pytest.raises(RuntimeMissingError, match="apt install gcc"):
        Interpreter(Conv().file())


def test_a_library_that_is_none(monkeypatch, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setenv("LARQ_SERESNET_DELEGATE", str(broken))
    with pytest.raises(RuntimeMissingError, match="cannot be loaded"):
        Interpreter(Conv().file())


def test_a_missing_runtime_is_told_with_what_to_do(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(name=name.split(".")[0])

    monkeypatch.setattr(native_library.importlib, "import_module", fail)
    with pytest.raises(RuntimeMissingError, match="pip install"):
        Interpreter(classifier())
