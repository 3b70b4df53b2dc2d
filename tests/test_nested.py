"""Networks that were put into other models."""

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import attention
from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.convert import convert
from larq_seresnet.edge import Interpreter
from larq_seresnet.eigencam import eigencam
from larq_seresnet.inspect import gate_statistics
from larq_seresnet.nested import flat
from larq_seresnet.prune import prune
from tests.test_prune import network, switch_off

layers = tf.keras.layers


def sequential(body):
    return tf.keras.Sequential([layers.Rescaling(1.0, input_shape=(32, 32, 3)), body])


def functional(body):
    x = tf.keras.Input((32, 32, 3))
    return tf.keras.Model(x, layers.Dense(3, name="dense")(body(x, training=False)))


def twice(body):
    x = tf.keras.Input((32, 32, 3))
    return tf.keras.Model(x, layers.Softmax()(sequential(body)(x * 1.0)))


@pytest.fixture
def body(images):
    return network(images, blocks=(1, 1))


@pytest.fixture(params=[functional, twice, pytest.param(sequential, marks=pytest.mark.slow)])
def outer(request, body):
    return request.param(body)


def test_flat_it_computes_the_same_and_the_model_stays_as_it_is(outer, images):
    expected = outer.predict(images, verbose=0)

    found = flat(outer)

    assert not any(isinstance(layer, tf.keras.Model) for layer in found.layers)
    assert np.array_equal(found.predict(images, verbose=0), expected)
    found.set_weights([0 * weight for weight in found.get_weights()])
    assert np.array_equal(outer.predict(images, verbose=0), expected)


def test_flat_it_trains_as_before(outer, images):
    found = flat(outer)

    assert np.allclose(found(images, training=True), outer(images, training=True))
    assert all(map(np.array_equal, found.get_weights(), outer.get_weights()))


def test_names(body):
    names = [layer.name for layer in flat(functional(body)).layers]

    assert len(set(names)) == len(names)
    assert names[-1] == "dense"
    assert f"{body.name}_dense" in names
    assert "block2_se" in names


def test_a_model_without_models_is_flat(body):
    assert flat(body) is body


def test_a_model_that_is_used_twice_stays_shared(body, images):
    a, b = tf.keras.Input((32, 32, 3)), tf.keras.Input((32, 32, 3))
    siamese = tf.keras.Model([a, b], layers.Subtract()([body(a), body(b)]))

    found = flat(siamese)

    pair = [images, images[::-1]]
    assert np.array_equal(found(pair), siamese(pair))
    assert found.count_params() == siamese.count_params()


def test_heat_maps_and_gates_are_the_bodys(outer, body, images):
    assert np.array_equal(eigencam(outer, images), eigencam(body, images))
    assert np.array_equal(eigencam(outer, images, "block1_se"), eigencam(body, images, "block1_se"))
    pairs = zip(gate_statistics(outer, images), gate_statistics(body, images), strict=True)
    for ours, theirs in pairs:
        assert (ours.module, ours.on.tolist()) == (theirs.module, theirs.on.tolist())


def test_modules_and_fmb_are_found(outer):
    modules = attention.modules(outer)
    assert [module.name for module in modules] == ["block1_se", "block2_se"]

    schedule = FMBSchedule(start=1)
    schedule.set_model(outer)
    schedule.on_epoch_begin(0)

    assert not any(module.fmb.enabled for module in modules)


def test_pruned_it_computes_as_before(outer, body, images):
    switch_off(body, 2, [1, 5])
    before = outer.predict(images, verbose=0)

    pruned = prune(outer, images)

    assert pruned.get_layer("block2_conv2").filters <= 6
    assert np.allclose(pruned.predict(images, verbose=0), before, atol=1e-5)


@pytest.mark.parametrize(
    ("activations", "target"),
    [
        ("float", "litert"),
        pytest.param("float", "lce", marks=pytest.mark.slow),
        pytest.param("binary", "litert", marks=pytest.mark.slow),
        pytest.param("binary", "lce", marks=pytest.mark.slow),
    ],
)
def test_it_is_converted(activations, target, images):
    model = sequential(network(images, blocks=(1, 1), activations=activations))

    file = convert(model, target, images=images.astype(np.float32))

    expected = model.predict(images, verbose=0)
    assert np.allclose(Interpreter(file).predict(images.astype(np.float32)), expected, atol=1e-5)


def test_of_two_models_in_one_each_keeps_attention_of_its_own(images):
    first, second = (network(images, blocks=(1, 1)) for _ in range(2))
    second._name = "second"
    kernel = first.get_layer("block1_se").excite.kernel
    kernel.assign(np.abs(kernel.numpy()))  # of ReLU's outputs: no gate is off
    switch_off(second, 1, [0], steady=False)
    x = tf.keras.Input((32, 32, 3))
    model = tf.keras.Model(x, layers.Average()([first(x), second(x)]))

    names = {layer.name for layer in prune(model, images, left_out=1.0).layers}

    assert "block1_se" not in names
    assert "second_block1_se" in names
