"""What is wrong is found, and said after which stage."""

import contextlib
import json

import numpy as np
import pytest

from larq_seresnet import __version__, models
from larq_seresnet.convert import (
    ConversionError,
    conversion,
    convert,
    fold,
    graph,
    run_conversion,
    verify,
    writer,
)
from larq_seresnet.convert.pack import pack
from tests.test_layers import cancelling


def _flip_one_bit(work):
    for tensor in work.tensors():
        if tensor.data is not None and tensor.data.dtype in (np.int32, np.uint8):
            data = tensor.data.copy()
            if data.size > 100:
                data.ravel()[50] ^= 1
                tensor.data = data
                return


def test_a_wrong_bit_is_found_and_the_stage_named(network, pictures, monkeypatch):
    def broken(work, target, steps):
        kernels = pack(work, target, steps)
        _flip_one_bit(work)
        return kernels

    monkeypatch.setattr(conversion, "pack", broken)
    for target in ("lce", "litert"):
        with pytest.raises(ConversionError, match="first differ after: packing"):
            convert(network(), target, images=pictures)


def test_a_wrong_fold_is_found_and_the_stage_named(network, pictures, monkeypatch):
    def broken(work):
        genuine(work)
        for operator in work.operators:
            if operator.name == "GREATER_EQUAL":
                operator.inputs[1] = graph.Tensor.constant(np.float32(3))

    genuine = fold.fold
    monkeypatch.setattr(fold, "fold", broken)
    with pytest.raises(ConversionError, match="first differ after: folding"):
        convert(network(), "litert", images=pictures)


def test_a_wrong_converter_is_found_and_named(network, pictures, monkeypatch):
    other = network(gate="tanh", fmb=False)
    genuine = conversion.converters.run_converter
    monkeypatch.setattr(
        conversion.converters, "run_converter", lambda model, target: genuine(other, target)
    )
    with pytest.raises(ConversionError, match="first differ after: LCE"):
        convert(network(), "lce", images=pictures)


def test_metadata_are_json(network):
    with pytest.raises(ValueError, match="metadata must be JSON values"):
        convert(network(), metadata={"labels": np.arange(10)})


def test_the_metadata_say_what_was_verified(network, pictures):
    facts = {"labels": ["cat", "dog"], "dataset": "pets", "test_error": 12.5}
    for activations in ("float", "binary"):
        model = network(activations=activations)
        others = {"target": "litert", "version": "0", "input_shape": [1]}  # another file's
        file = run_conversion(model, "lce", images=pictures, metadata={**others, **facts}).file
        found = json.loads(graph.parse(file).metadata["larq_seresnet"])
        assert facts.items() <= found.items()
        assert found["verified_images"] == len(pictures)
        assert found["verified_on"] == "given"
        assert found["input_range"] == [0, 255]
        assert found["input_shape"] == [32, 32, 3]
        assert (found["target"], found["version"]) == ("lce", __version__)
        assert ("deviating_images" in found) == (activations == "binary")


def test_binary_activations_may_deviate_on_one_image_of_a_hundred():
    result = verify.Verification(images=200, deviating=2, ties=0, error=1e-6, signs=50_000)
    assert result.passes(binary_activations=True)
    assert not result.passes(binary_activations=False)
    too_many = verify.Verification(images=200, deviating=3, ties=0, error=1e-6, signs=50_000)
    assert not too_many.passes(binary_activations=True)
    ties = verify.Verification(images=200, deviating=0, ties=2, error=1e-6, signs=50_000)
    assert ties.passes(binary_activations=False)


def test_of_large_images_more_may_deviate_but_never_most():
    def passes(deviating, signs):
        found = verify.Verification(100, deviating, ties=0, error=1e-6, signs=signs)
        return found.passes(binary_activations=True)

    assert (passes(5, 500_000), passes(6, 500_000)) == (True, False)
    assert (passes(50, 50_000_000), passes(51, 50_000_000)) == (True, False)


def test_only_a_gate_that_is_zero_but_for_rounding_is_a_tie():
    keras = [np.array([4.0, -2.0, 1e-6]), np.array([1.0, -1.0])]
    rounded = [np.array([4.0, -2.0, -1e-6]), np.array([-5.0, 8.0])]  # what follows may be anything
    flipped = [np.array([4.0, 2.0, 1e-6]), np.array([1.0, -1.0])]
    assert verify._is_tie(keras, rounded)
    assert not verify._is_tie(keras, flipped)
    assert not verify._is_tie(keras, keras)


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
@pytest.mark.parametrize("target", ["lce", "litert"])
def test_a_gate_whose_terms_cancel_is_no_tie(gate, target, network, pictures):
    model = network(gate=gate, fmb=True, attention_scale=True)
    for block in (1, 4):
        cancelling(model.get_layer(f"block{block}_se"))

    found = run_conversion(model, target, images=pictures).verification

    assert (found.ties, found.deviating) == (0, 0)


def test_gates_are_read_out_of_the_file(network, pictures, monkeypatch):
    """A gate of -z instead of z is no tie, and its image counts as deviating."""

    def broken(work):
        genuine(work)
        gate = [op for op in work.operators if op.name == "GREATER_EQUAL"][-1]
        gate.inputs.reverse()

    genuine = fold.fold
    monkeypatch.setattr(fold, "fold", broken)
    with pytest.raises(ConversionError, match=r"120 deviate, 0 tie"):
        convert(network(), "litert", images=pictures)


def test_images_must_fit_the_model(network, pictures):
    with pytest.raises(ConversionError, match="do not fit"):
        convert(network(), "lce", images=pictures[:, :16])
    with pytest.raises(ConversionError, match="do not fit"):
        convert(network(), "lce", images=pictures[:0])


@pytest.mark.parametrize("arguments", [{"target": "tpu"}, {"target": "lce", "input_type": "int4"}])
def test_unknown_target_or_input_type(network, arguments):
    with pytest.raises(ValueError, match="must be one of"):
        convert(network(), **arguments)


def test_a_model_whose_outputs_are_not_finite(network, pictures):
    model = network()
    model.get_layer("bn").gamma.assign(np.full(8, np.nan))
    with pytest.raises(ConversionError, match="not finite"):
        convert(model, "litert", images=pictures)


def test_damaged_files_are_refused_in_one_line(network, pictures):
    file = convert(network(width=4), "lce", images=pictures)
    for damaged in (b"", b"no model at all", file[:7], file[:1000], file[: len(file) // 2]):
        with pytest.raises(ConversionError):
            graph.parse(damaged)
    rng = np.random.default_rng(0)
    for _ in range(200):  # either still a graph, or refused: no other exception, no crash
        damaged = bytearray(file)
        damaged[rng.integers(8, len(file))] = rng.integers(256)
        with contextlib.suppress(ConversionError):
            graph.parse(bytes(damaged))


@pytest.mark.parametrize(("fmb", "written"), [(False, 2), (True, 3)])
def test_a_conversion_reads_once_and_writes_what_it_runs(
    network, pictures, monkeypatch, fmb, written
):
    """What the converter wrote is read; what is compared and what is given are written.

    Where rounding decides, what is compared is two files: one of the kernels, run once.
    """
    calls = []
    for module, name in ((conversion, "parse"), (writer, "to_bytes")):
        genuine = getattr(module, name)
        monkeypatch.setattr(module, name, lambda x, g=genuine, n=name: calls.append(n) or g(x))
    run_conversion(network(fmb=fmb), "litert", images=pictures)
    assert calls == ["parse", *["to_bytes"] * written]


def test_writing_what_was_read_changes_nothing(network, pictures):
    file = convert(network(), "litert", images=pictures)
    assert writer.to_bytes(graph.parse(file)) == file


def test_batch_norm_that_saw_no_images_is_named_where_outputs_differ(pictures, monkeypatch):
    def broken(work, target, steps):
        kernels = pack(work, target, steps)
        _flip_one_bit(work)
        return kernels

    monkeypatch.setattr(conversion, "pack", broken)
    model = models.SEResNet14Bin(width=4, blocks=(1, 1))
    with pytest.raises(ConversionError, match=r"bn \(of \d+ batch norms\).* training=True"):
        convert(model, "litert", images=pictures)
    model(pictures, training=True)
    with pytest.raises(ConversionError) as error:
        convert(model, "litert", images=pictures)
    assert "training=True" not in str(error.value)
