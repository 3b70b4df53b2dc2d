import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import attention
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import keras_models
from larq_seresnet.layers import SqueezeExcite
from larq_seresnet.models import SEResNet14, SEResNet14Bin, to_float32
from larq_seresnet.prune import __main__, prune
from larq_seresnet.prune.selection import select

# Where channels are gone or stand elsewhere, the same float32 numbers are added in another order,
# and each of the 14 layers rounds its sums otherwise: measured, all in all 3e-7 of the largest
# logit. A mistake is far from that: the modules' biases left out come to a tenth.
ROUNDING = 14 * np.finfo(np.float32).eps


def network(images, build=SEResNet14Bin, **arguments):
    """A small network with FMB and batch norm statistics of the images."""
    model = build(**{"width": 4, "fmb": True, **arguments})
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(np.random.default_rng(1).normal(0, 0.3, layer.beta.shape))
    model(images, training=True)
    return model


def switch_off(model, block, channels, steady=True):
    """Make a module's gates always 0; with `steady`, also make what they scale constant."""
    module = model.get_layer(f"block{block}_se")
    kernel = module.excite.kernel.numpy()
    kernel[..., channels] = -0.5
    module.excite.kernel.assign(kernel)
    if module.input_quantizer:  # whose hidden units are +1 and -1: let all be +1
        module.norms[1].beta.assign(np.full(module.norms[1].beta.shape, 1e6))
    if steady:
        norm = model.get_layer(f"block{block}_bn2")
        gamma = norm.gamma.numpy()
        gamma[channels] = 0
        norm.gamma.assign(gamma)
    return model


def logits(model, images):
    exact = to_float32(model)
    return keras_models.values(exact, [exact.get_layer("logits").output], [images])[0]


def filters(model):
    return [model.get_layer(f"block{i}_conv2").filters for i in range(1, 7)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        pytest.param({"build": SEResNet14}, marks=pytest.mark.slow, id="float"),
        {"activations": "binary"},
        pytest.param({"build": SEResNet14, "stem": 4}, marks=pytest.mark.slow, id="max pool"),
        pytest.param({"stem": 4, "activations": "binary"}, marks=pytest.mark.slow),
        pytest.param({"reduction": 2}, marks=pytest.mark.slow),
        pytest.param({"classes": 3, "gradient": "cut"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_channels_that_are_always_off_go_without_a_trace(arguments, images):
    model = network(images, **arguments)
    switch_off(model, 1, [0, 2])
    switch_off(model, 2, [2, 3])  # block 1's stream; channel 2 is in both, in the middle
    switch_off(model, 5, [1, 5, 6])
    switch_off(model, 6, [0])
    before = logits(model, images)
    on = [seen.is_on for seen in attention.observe(model, images)]

    pruned = prune(model, images)

    gone = np.subtract(filters(model), filters(pruned))
    assert (gone >= [2, 2, 0, 0, 3, 1]).all()
    assert pruned.get_layer("block1_se").excite.filters <= 2
    assert pruned.count_params() < model.count_params()
    assert np.abs(logits(pruned, images) - before).max() <= ROUNDING * np.abs(before).max()
    left = [seen.is_on for seen in attention.observe(pruned, images)]
    for whole, part in zip(on, left, strict=True):
        assert np.array_equal(whole.sum(axis=1), part.sum(axis=1))
    assert np.array_equal(logits(model, images), before)  # the network itself is as it was


@pytest.mark.slow
def test_a_network_of_another_precision_keeps_it(images):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = switch_off(network(images), 3, [1, 4])

    pruned = prune(model, images)

    assert pruned.get_layer("block3_conv2").compute_dtype == "bfloat16"
    assert pruned.get_layer("block3_conv2").filters <= 6
    exact = logits(model, images)
    assert np.abs(logits(pruned, images) - exact).max() <= ROUNDING * np.abs(exact).max()


def test_a_channel_stays_whose_mean_would_change_other_gates(images):
    model = switch_off(network(images), 4, [0, 1, 2], steady=False)
    switch_off(model, 4, [3])
    lossy = select(model, images, threshold=1e-9)[3]
    assert lossy.changed > 0  # all that are off together would
    assert lossy.never_on >= 4

    choice = select(model, images)[3]

    assert choice.changed == 0
    assert choice.removed[3]
    assert choice.removed.sum() < lossy.removed.sum()
    pruned = prune(model, images)
    before = logits(model, images)
    assert np.abs(logits(pruned, images) - before).max() <= ROUNDING * np.abs(before).max()


def test_a_threshold_removes_what_is_on_for_fewer_of_the_images(images):
    model = network(images)
    rates = [seen.is_on.mean(axis=0) for seen in attention.observe(model, images)]

    choices = select(model, images, threshold=0.6)

    for rate, choice in zip(rates, choices, strict=True):
        expected = rate < 0.6
        expected[rate.argmax()] = False  # one always stays
        assert np.array_equal(choice.removed, expected)
    assert sum(choice.removed.sum() for choice in choices) > 5
    assert filters(prune(model, images, 0.6)) == [int((~c.removed).sum()) for c in choices]


def test_one_channel_of_a_module_always_stays(images):
    model = switch_off(network(images), 2, [0, 1, 2, 3])

    pruned = prune(model, images, threshold=1.0)

    assert all(filters(pruned))
    assert filters(pruned)[1] == 1
    assert np.isfinite(logits(pruned, images)).all()


def test_the_removed_channels_mean_becomes_a_bias(images):
    model = network(images)
    seen = attention.observe(model, images)[0]
    choice = select(model, images, threshold=0.9)[0]
    assert choice.removed.any()

    module = prune(model, images, 0.9).get_layer("block1_se")

    squeeze = np.where(model.get_layer("block1_se").squeeze.kernel.numpy()[0, 0] >= 0, 1, -1)
    contribution = seen.pooled[:, choice.removed] @ squeeze[choice.removed]
    # Both are computed in float64; the bias is rounded to float32.
    np.testing.assert_allclose(
        module.squeeze.bias.numpy(), contribution.mean(axis=0), rtol=np.finfo(np.float32).eps
    )


def test_a_pruned_network_loads_as_any_other(images, tmp_path):
    model = network(images)
    pruned = prune(model, images, threshold=0.5)
    pruned.save(tmp_path / "pruned.keras")

    loaded = tf.keras.models.load_model(tmp_path / "pruned.keras")
    assert np.array_equal(logits(loaded, images), logits(pruned, images))


@pytest.mark.slow
def test_a_pruned_network_can_be_trained(images):
    pruned = prune(network(images), images, threshold=0.5)
    pruned.compile("adam", "sparse_categorical_crossentropy")
    bias = pruned.get_layer("block6_se").squeeze.bias
    before = bias.numpy()

    pruned.fit(images, np.arange(16) % 10, verbose=0)

    assert not np.array_equal(bias.numpy(), before)


@pytest.mark.slow
def test_it_can_be_pruned_again(images):
    model = switch_off(network(images), 3, [0, 4])
    pruned = switch_off(prune(model, images), 3, [1])
    before = logits(pruned, images)

    again = prune(pruned, images)

    assert again.get_layer("block3_conv2").filters < pruned.get_layer("block3_conv2").filters
    assert np.abs(logits(again, images) - before).max() <= ROUNDING * np.abs(before).max()


@pytest.mark.slow
def test_it_loads_in_a_fresh_process(images, tmp_path, python):
    prune(network(images), images, threshold=0.5).save(tmp_path / "pruned.keras")
    code = (
        "import sys, larq_seresnet.models, tensorflow as tf;"
        "tf.keras.models.load_model(sys.argv[1]).summary()"
    )

    process = python("-c", code, str(tmp_path / "pruned.keras"))

    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gate": "tanh", "fmb": True}, r"block1_se has \+1/-1 gates"),
        ({"gate": "hard_tanh", "fmb": True}, "flips a channel"),
        ({"fmb": False}, r"soft gates \(no FMB\)"),
        ({"gate": None, "fmb": False}, "no squeeze-and-excitation"),
    ],
    ids=str,
)
def test_gates_that_remove_nothing(arguments, message, images):
    with pytest.raises(ValueError, match=message):
        prune(SEResNet14Bin(width=4, **arguments), images)


def test_bad_arguments(images):
    model = SEResNet14Bin(width=4)
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be from 0 to 1"):
            prune(model, images, threshold)
    for wrong in (images[:, :16], images[0], images[:0]):
        with pytest.raises(ValueError, match="do not fit inputs of"):
            prune(model, wrong)


def test_channels_that_cannot_be_followed(images):
    x = inputs = tf.keras.Input((32, 32, 3))
    x = tf.keras.layers.Conv2D(4, 3)(x)
    x = SqueezeExcite(fmb=True, name="attention")(x)
    x = tf.keras.layers.Flatten(name="flat")(x)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(10)(x))
    with pytest.raises(ValueError, match="cannot be followed through layer 'flat'"):
        prune(model, images, threshold=0.5)

    scaled = SqueezeExcite(fmb=True, name="attention")(inputs)
    with pytest.raises(ValueError, match="the model's input or output"):
        prune(tf.keras.Model(inputs, scaled), images, threshold=0.5)


def test_the_command(images, tmp_path, capsys):
    network(images).save(tmp_path / "model.keras")
    out = tmp_path / "pruned.keras"
    arguments = [str(tmp_path / "model.keras"), "--dataset", "digits", "--images", "30"]

    assert __main__.main([*arguments, "--threshold", "0.7", "--out", str(out)]) == 0

    printed = capsys.readouterr().out
    pruned = tf.keras.models.load_model(out, compile=False)
    assert f"{pruned.count_params():,} in {out}" in printed
    assert "block6_se" in printed
    for extra, message in (
        (["--out", str(tmp_path / "pruned.h5")], "must be a .keras file"),
        (["--out", str(tmp_path / "no" / "pruned.keras")], "in a folder that exists"),
        (["--threshold", "2", "--out", str(out)], "threshold must be from 0 to 1, not 2"),
    ):
        assert __main__.main([*arguments, *extra]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1


def test_attention_that_is_always_on_is_left_out(images, tmp_path):
    model = network(images)
    for block in (1, 2, 4):
        kernel = model.get_layer(f"block{block}_se").excite.kernel
        kernel.assign(np.abs(kernel.numpy()))  # of ReLU's outputs: no gate is off

    smaller = prune(model, images, left_out=1.0)

    names = {layer.name for layer in smaller.layers}
    assert {f"block{i}_se" for i in range(1, 7)} & names == {f"block{i}_se" for i in (3, 5, 6)}
    difference = np.abs(logits(smaller, images) - logits(model, images)).max()
    assert difference <= ROUNDING * np.abs(logits(model, images)).max()
    assert Architecture.of(smaller) == Architecture.of(model)
    smaller.save(tmp_path / "smaller.keras")
    loaded = tf.keras.models.load_model(tmp_path / "smaller.keras", compile=False)
    assert np.array_equal(logits(loaded, images), logits(smaller, images))


def test_channels_go_beside_attention_that_is_left_out(images):
    model = switch_off(network(images), 6, [1, 3])
    kernel = model.get_layer("block5_se").excite.kernel
    kernel.assign(np.abs(kernel.numpy()))

    smaller = prune(model, images, left_out=0.999)

    assert smaller.get_layer("block6_conv2").filters <= 14
    assert "block5_se" not in {layer.name for layer in smaller.layers}
    difference = np.abs(logits(smaller, images) - logits(model, images)).max()
    assert difference <= ROUNDING * np.abs(logits(model, images)).max()
