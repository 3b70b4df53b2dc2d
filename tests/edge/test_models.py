"""Models of other kinds than image classifiers: what `predict` makes of their inputs."""

import json

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as LiteRT

from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.__main__ import main
from tools.edge.packed_files import classifier, packed_conv

RANDOM = np.random.default_rng(0)


def litert(content: bytes, x: np.ndarray) -> np.ndarray:
    """What LiteRT gives for one input, from the initial state on."""
    interpreter = LiteRT(model_content=content)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("length", [1, 31, 33, 1000])
def test_an_input_whose_first_axis_is_no_batch_is_not_cut(tensorflow_files, length):
    x = RANDOM.normal(size=length).astype(np.float32)
    scores = Interpreter(tensorflow_files["wave"]).predict(x)
    np.testing.assert_allclose(scores, [x.mean(), x.max()], rtol=1e-5, atol=1e-6)


def test_examples_that_depend_on_each_other_run_together(tensorflow_files):
    x = RANDOM.normal(size=(100, 3)).astype(np.float32)
    result = Interpreter(tensorflow_files["centred"]).predict(x)
    np.testing.assert_allclose(result, x - x.mean(axis=0), atol=1e-5)


def test_a_file_of_our_converter_runs_in_parts(monkeypatch):
    model = Interpreter(packed_conv("litert", dynamic_batch=True, metadata=b'{"labels": []}')[0])
    assert not model.metadata["labels"]
    sizes = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda a, keep: sizes.append(len(a[0])) or run(a, keep))
    x = RANDOM.normal(size=(70, 16, 16, 3)).astype(np.float32)
    y = model.predict(x)
    assert sizes == [32, 32, 6]
    np.testing.assert_allclose(y[-1:], model.predict(x[-1:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
def test_a_fixed_batch_is_padded_and_cut(tensorflow_files, count):
    content = tensorflow_files["four"]
    x = RANDOM.normal(size=(count, 3)).astype(np.float32)
    whole = np.concatenate([x, np.zeros((-count % 4, 3), np.float32)])
    parts = [litert(content, whole[i : i + 4]) for i in range(0, len(whole), 4)]
    expected = np.concatenate([np.empty((0, 2), np.float32), *parts])[:count]
    np.testing.assert_allclose(Interpreter(content).predict(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["float", "fixed"])
def test_one_image_without_its_batch_axis_is_a_batch_of_one(tensorflow_files, kind):
    content = tensorflow_files["float"] if kind == "float" else classifier(size=8)
    model = Interpreter(content)
    image = RANDOM.uniform(size=(8, 8, 3)).astype(np.float32)
    assert np.array_equal(model.predict(image), model.predict(image[None]))


def test_examples_do_not_see_each_others_state(tensorflow_files):
    model = Interpreter(tensorflow_files["lstm"])
    x = RANDOM.normal(size=(5, 6, 5)).astype(np.float32)
    expected = np.concatenate([litert(tensorflow_files["lstm"], v[None]) for v in x])
    for _ in range(2):
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)


def test_a_stream_keeps_its_state_until_it_is_reset(tensorflow_files):
    model = Interpreter(tensorflow_files["lstm"])
    x = RANDOM.normal(size=(1, 6, 5)).astype(np.float32)
    first = model.predict(x)
    second = model.predict(x, keep_state=True)
    assert np.abs(second - first).max() > 1e-3
    model.reset()
    assert np.array_equal(model.predict(x, keep_state=True), first)
    np.testing.assert_allclose(model.predict(x, keep_state=True), second, rtol=1e-5)


def test_variables_are_state_too(tensorflow_files):
    model = Interpreter(tensorflow_files["counter"])
    x = np.array([2], np.float32)
    assert model.predict(x) == model.predict(x) == [2]
    assert [model.predict(x, keep_state=True)[0] for _ in range(2)] == [4, 6]
    model.reset()
    assert model.predict(x, keep_state=True) == [2]
    assert model.predict(np.array([[1], [2], [3]])[:1, 0]) == [1]


def test_a_signature_is_chosen_and_names_the_tensors(tensorflow_files):
    content = tensorflow_files["signatures"]
    x = RANDOM.normal(size=(2, 3)).astype(np.float32)
    for key, output, factor in (("encode", "code", 2), ("decode", "plain", 0.5)):
        model = Interpreter(content, signature=key)
        assert (model.signature, sorted(model.signatures)) == (key, ["decode", "encode"])
        assert [info.name for info in model.inputs] == ["x"]
        assert [info.name for info in model.outputs] == [output]
        np.testing.assert_allclose(model.predict({"x": x}), factor * x)
        np.testing.assert_allclose(model.predict(x[0]), factor * x[:1])
    assert Interpreter(content).signature in ("encode", "decode")
    with pytest.raises(ValueError, match=r"no signature 'other', but: .*encode"):
        Interpreter(content, signature="other")


def test_info_lists_the_signatures(tensorflow_files, tmp_path, capsys):
    path = tmp_path / "model.tflite"
    path.write_bytes(tensorflow_files["signatures"])
    assert main(["info", str(path)]) == 0
    assert "signatures: " in capsys.readouterr().out
    assert main(["info", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {entry["key"] for entry in report["signatures"]} == {"encode", "decode"}
    assert report["inputs"][0]["name"] == "x"


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_real_numbers_go_in_and_out_of_an_integer_file(tensorflow_files, kind):
    model, real = Interpreter(tensorflow_files[kind]), Interpreter(tensorflow_files["float"])
    images = RANDOM.uniform(size=(5, 8, 8, 3)).astype(np.float32)
    result = model.predict(images)
    assert result.dtype == np.float32
    expected = real.predict(images)
    assert np.abs(result - expected).max() < 0.1 * np.ptp(expected)
    np.testing.assert_array_equal(model.predict(images.astype(np.float64)), result)

    (inputs,), (outputs,) = model.inputs, model.outputs
    limits = np.iinfo(kind)
    integers = np.rint(images / inputs.scale) + inputs.zero_point
    integers = integers.clip(limits.min, limits.max).astype(kind)
    raw = model.predict(integers)
    assert raw.dtype == kind
    np.testing.assert_allclose((raw.astype(float) - outputs.zero_point) * outputs.scale, result)
    assert np.array_equal(model.predict(images * 1e6), model.predict(images * 1e9))  # the limits
    with pytest.raises(ValueError, match="NaN"):
        model.predict(images * np.nan)
