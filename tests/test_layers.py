import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import gates
from larq_seresnet.layers import FMB, SqueezeExcite

GATES = sorted(gates.GATES)


@pytest.mark.parametrize(
    ("gate", "threshold", "low", "high"),
    [("sigmoid", 0.5, 0, 1), ("tanh", 0, -1, 1), ("hard_tanh", 0, -1, 1)],
)
@pytest.mark.parametrize("gradient", ["ste", "cut"])
def test_fmb_compares_with_greater_or_equal(gate, threshold, low, high, gradient):
    threshold = np.float32(threshold)
    step = max(np.spacing(threshold), np.finfo(np.float32).tiny)  # denormals count as zero
    below, above = threshold - step, threshold + step

    binarized = FMB(gate, gradient)(tf.constant([below, threshold, above])).numpy()

    assert binarized.tolist() == [low, high, high]


@pytest.mark.parametrize("input_quantizer", [None, "ste_sign"])
def test_the_scale_tames_the_preactivation_and_moves_no_binarized_gate(input_quantizer):
    features = tf.random.normal([64, 4, 4, 32])
    arguments = {"kernel_quantizer": "ste_sign", "input_quantizer": input_quantizer, "fmb": True}
    plain, scaled = SqueezeExcite(**arguments), SqueezeExcite(scale=True, **arguments)
    expected = plain(features)
    scaled.build(features.shape)
    scaled.set_weights(plain.get_weights())

    assert np.array_equal(scaled(features), expected)
    np.testing.assert_allclose(
        scaled.preactivation(features) * (32 if input_quantizer is None else 32**0.5),
        plain.preactivation(features),
        rtol=1e-5,
    )
    assert SqueezeExcite.from_config(scaled.get_config()).scale


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("gradient", ["ste", "cut"])
def test_fmb_gives_exactly_two_values(gate, gradient):
    channel_weights = gates.get(gate).activation(tf.random.normal([10_000], stddev=3))

    binarized = FMB(gate, gradient)(channel_weights).numpy()

    assert set(binarized.tolist()) == {gates.get(gate).low, gates.get(gate).high}


@pytest.mark.parametrize("gate", GATES)
def test_binarized_gate_is_high_just_where_the_preactivation_is_not_negative(gate):
    z = tf.constant([-1e-6, -0.0, 0.0, 1e-30, 5.0])

    binarized = FMB(gate)(gates.get(gate).activation(z)).numpy()

    low, high = gates.get(gate).low, gates.get(gate).high
    assert binarized.tolist() == [low, high, high, high, high]


def test_straight_through_gradient_is_the_identity():
    channel_weights = tf.Variable([0.2, 0.5, 0.9])
    upstream = tf.constant([1.0, -2.0, 3.0])

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(FMB(gradient="ste")(channel_weights) * upstream)

    assert tape.gradient(loss, channel_weights).numpy().tolist() == upstream.numpy().tolist()


def test_cut_gradient_is_none():
    channel_weights = tf.Variable([0.2, 0.5, 0.9])

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(FMB(gradient="cut")(channel_weights))

    assert tape.gradient(loss, channel_weights) is None


def test_disabled_fmb_is_the_identity():
    channel_weights = tf.constant([0.2, 0.5, 0.9])

    assert FMB(enabled=False)(channel_weights).numpy().tolist() == channel_weights.numpy().tolist()


@pytest.mark.parametrize("layer", [FMB, SqueezeExcite])
@pytest.mark.parametrize("arguments", [{"gate": "softmax"}, {"gradient": "st"}])
def test_unknown_names_are_refused(layer, arguments):
    with pytest.raises(ValueError, match="must be one of"):
        layer(**arguments)


def feature_map(channels=8):
    return tf.constant(np.random.default_rng(0).normal(size=(4, 5, 6, channels)), tf.float32)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("fmb", [False, True])
@pytest.mark.parametrize("reduction", [1, 4])
@pytest.mark.parametrize("quantizer", [None, "ste_sign"])
def test_squeeze_excite_follows_the_equations(gate, fmb, reduction, quantizer):
    features = feature_map()
    layer = SqueezeExcite(reduction, gate, fmb, kernel_quantizer=quantizer)
    output = layer(features).numpy()

    w0, w1 = (weight.numpy()[0, 0].astype(np.float64) for weight in layer.weights)
    if quantizer:
        w0, w1 = (np.where(w >= 0, 1.0, -1.0) for w in (w0, w1))
    z = np.maximum(features.numpy().mean((1, 2), dtype=np.float64) @ w0, 0) @ w1
    m = {"sigmoid": 1 / (1 + np.exp(-z)), "tanh": np.tanh(z), "hard_tanh": z.clip(-1, 1)}[gate]
    if fmb:
        m = np.where(z >= 0, 1.0, 0.0 if gate == "sigmoid" else -1.0)
    np.testing.assert_allclose(output, m[:, None, None] * features.numpy(), rtol=1e-4, atol=1e-5)


def cancelling(module):
    """Let the first channel's terms of z cancel each other: each filter of W_0 is there twice."""
    filters = module.squeeze.filters // 2
    random = np.random.default_rng(0)
    squeeze, excite = module.squeeze.kernel.numpy(), module.excite.kernel.numpy()
    order = filters + random.permutation(filters)
    squeeze[..., order] = squeeze[..., :filters]
    signs = random.choice([-1.0, 1.0], filters)
    excite[0, 0, :filters, 0], excite[0, 0, order, 0] = signs, -signs
    module.squeeze.kernel.assign(squeeze)
    module.excite.kernel.assign(excite)


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_whose_terms_cancel_is_on_whatever_rounding_says(gate):
    features = tf.random.normal([1000, 4, 4, 32])
    layer = SqueezeExcite(1, gate, fmb=True, kernel_quantizer="ste_sign")
    soft = SqueezeExcite(1, gate, kernel_quantizer="ste_sign")
    for module in (layer, soft):
        module.build(features.shape)
        cancelling(module)
    soft.set_weights(layer.get_weights())

    assert (soft.preactivation(features)[..., 0] < 0).numpy().any()
    assert (layer.gates(features)[..., 0] == 1).numpy().all()
    assert (layer.gates(features)[..., 1] != 1).numpy().any()


def test_gates_are_computed_in_float32_under_mixed_precision():
    features = feature_map(channels=64)
    exact = SqueezeExcite(fmb=True, kernel_quantizer="ste_sign")
    expected = exact.gates(exact(features) * 0 + features)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    mixed = SqueezeExcite(fmb=True, kernel_quantizer="ste_sign")
    output = mixed(features)
    mixed.set_weights(exact.get_weights())

    assert output.dtype == tf.bfloat16
    assert mixed.gates(features).dtype == tf.float32
    assert np.array_equal(mixed.gates(features), expected)
    # A pre-activation just below zero: bfloat16 would round its sigmoid up to 0.5.
    assert mixed.fmb(tf.sigmoid(tf.constant(-1e-3))).numpy() == 0


def test_binary_squeeze_excite_sees_signs_only():
    layer = SqueezeExcite(kernel_quantizer="ste_sign", input_quantizer="ste_sign")
    z = layer.preactivation(layer(feature_map())).numpy()

    assert np.array_equal(z, z.round())
    assert np.array_equal(z % 2, np.zeros_like(z))  # a sum of 8 values of +-1 is even


@pytest.mark.parametrize("input_quantizer", [None, "ste_sign"])
@pytest.mark.parametrize("reduction", [1, 4])
def test_open_gates_are_all_on_at_first(input_quantizer, reduction):
    arguments = {"kernel_quantizer": "ste_sign", "input_quantizer": input_quantizer}
    features = tf.random.stateless_normal([100, 4, 4, 64], [1, 2])

    def share_on(training, **more):
        layer = SqueezeExcite(reduction, fmb=True, **arguments, **more)
        layer(features)
        return layer.gates(features, training).numpy().mean()

    # With binary inputs batch norm has first to know their statistics.
    for training in (False, True) if input_quantizer is None else (True,):
        assert share_on(training, open_gates=True) == 1
    assert 0.2 < share_on(True) < 0.8


def test_open_gates_close_for_a_reason_that_lasts():
    layer = SqueezeExcite(fmb=True, open_gates=True, kernel_quantizer="ste_sign", scale=True)
    optimizer, features = tf.keras.optimizers.Adam(0.01), feature_map()
    for _ in range(300):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(features)[..., 0] ** 2) - tf.reduce_mean(
                layer(features)[..., 1] ** 2
            )
        weights = layer.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    on = layer.gates(features).numpy()[:, 0, 0]
    assert not on[:, 0].any()
    assert on[:, 1].all()


def test_reduction_must_divide_the_channels():
    with pytest.raises(ValueError, match="reduction 3 does not divide 8 channels"):
        SqueezeExcite(reduction=3)(feature_map())
    with pytest.raises(ValueError, match="positive integer"):
        SqueezeExcite(reduction=0)


@pytest.mark.parametrize(
    "layer",
    [
        FMB("tanh", "cut", enabled=False, name="a"),
        SqueezeExcite(2, "hard_tanh", True, "cut", True, "ste_sign", "ste_sign", name="b"),
        SqueezeExcite(open_gates=True, kernel_quantizer="ste_sign", name="d"),
        SqueezeExcite(name="c"),
    ],
)
def test_layers_are_rebuilt_from_their_configuration(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
