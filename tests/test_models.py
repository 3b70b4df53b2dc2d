import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.models import SEResNet14, SEResNet14Bin, to_float32

VARIANTS = {
    "float": SEResNet14,
    "float activations": SEResNet14Bin,
    "binary activations": lambda **arguments: SEResNet14Bin(activations="binary", **arguments),
}


def expected_parameters(width, binary):
    """Counted from the papers' description, block by block."""
    convs = 3 * 9 * width
    norms = 4 * width
    attention_norms = 0
    channels = width
    for filters in (width, width, 2 * width, 2 * width, 4 * width, 4 * width):
        convs += 9 * channels * filters + 9 * filters * filters + 2 * filters * filters
        norms += 2 * 4 * filters
        attention_norms += 2 * 4 * filters
        if filters != channels:
            convs += channels * filters
            norms += 4 * filters
        channels = filters
    return convs + norms + (attention_norms if binary else 0) + 10 * channels + 10


@pytest.mark.parametrize("width", [4, 16, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_count(width, variant):
    model = VARIANTS[variant](width=width)

    assert model.count_params() == expected_parameters(width, variant == "binary activations")


def test_width_16_has_the_papers_size():
    assert SEResNet14Bin().count_params() == 197_882


@pytest.mark.parametrize("variant", ["float activations", "binary activations"])
def test_every_kernel_is_one_bit(variant):
    model = VARIANTS[variant](width=4)
    profile = lq.models.ModelProfile(model)

    kernels = [weight for weight in model.trainable_weights if "kernel" in weight.name]
    assert profile.weight_count(bitwidth=1) == sum(int(tf.size(kernel)) for kernel in kernels)
    for kernel in kernels:
        with lq.context.quantized_scope(True):
            values = set(np.unique(tf.convert_to_tensor(kernel)).tolist())
        assert values == {-1.0, 1.0}, kernel.name


def test_summary_shows_the_one_bit_layers(capsys):
    lq.models.summary(SEResNet14Bin())

    printed = capsys.readouterr().out
    assert "1-bit" in printed
    assert "28.29 KiB" in printed


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("gate", ["sigmoid", "tanh", "hard_tanh", None])
def test_every_trainable_weight_learns(variant, gate, images):
    gradients = training_gradients(VARIANTS[variant](width=8, gate=gate, fmb=bool(gate)), images)

    idle = [name for name, gradient in gradients if gradient is None or not np.any(gradient)]
    assert not idle


@pytest.mark.parametrize("variant", VARIANTS)
def test_cut_gradient_spares_exactly_the_attention(variant, images):
    model = VARIANTS[variant](width=8, fmb=True, gradient="cut")

    cut = [name for name, gradient in training_gradients(model, images) if gradient is None]
    assert cut == [weight.name for weight in model.trainable_weights if "_se/" in weight.name]
    assert len(cut) >= 12


def training_gradients(model, images):
    labels = np.arange(len(images)) % 10
    with tf.GradientTape() as tape:
        probabilities = model(images, training=True)
        loss = tf.keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        # Fresh 1-bit networks are sure of themselves: scaled, no gradient underflows.
        loss = tf.reduce_sum(loss)
    gradients = tape.gradient(loss, model.trainable_weights)
    return list(zip([weight.name for weight in model.trainable_weights], gradients, strict=True))


@pytest.mark.parametrize(
    "variant",
    [
        "float activations",
        pytest.param("float", marks=pytest.mark.slow),
        pytest.param("binary activations", marks=pytest.mark.slow),
    ],
)
def test_plain_keras_code(variant, images, tmp_path, python):
    model = VARIANTS[variant](width=4, fmb=True)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, np.arange(16) % 10, batch_size=8, verbose=0)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "expected.npy", model.predict(images, verbose=0))
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "saved_model")

    fresh = python(
        "-c",
        "import sys, larq_seresnet.models, numpy as np, tensorflow as tf\n"
        "folder = sys.argv[1]\n"
        "images, expected = (np.load(f'{folder}/{n}.npy') for n in ('images', 'expected'))\n"
        "for name in ('model.keras', 'saved_model'):\n"
        "    model = tf.keras.models.load_model(f'{folder}/{name}')\n"
        "    assert np.array_equal(model.predict(images, verbose=0), expected), name\n"
        "    model.fit(images, np.arange(16) % 10, verbose=0)\n",
        str(tmp_path),
    )

    assert fresh.returncode == 0, fresh.stderr


def test_the_builder_works_when_tensorflow_is_imported_afterwards(python):
    process = python(
        "-c",
        "import larq_seresnet\n"
        "import tensorflow as tf\n"
        "model = larq_seresnet.models.SEResNet14Bin()\n"
        "assert isinstance(model, tf.keras.Model)\n",
        env={"TF_USE_LEGACY_KERAS": ""},
    )

    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    "imports", ["import tensorflow", "import keras", "import tensorflow.keras"]
)
def test_keras_3_is_one_clear_error(python, imports):
    process = python("-c", f"{imports}\nimport larq_seresnet", env={"TF_USE_LEGACY_KERAS": ""})

    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow was imported with Keras 3")
    assert "TF_USE_LEGACY_KERAS=1" in last


def test_importing_the_package_is_light(python):
    process = python(
        "-c",
        "import sys, larq_seresnet\n"
        "assert not {'tensorflow', 'keras', 'tf_keras', 'larq'} & set(sys.modules)\n",
    )

    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width must be a positive integer"),
        ({"width": 16, "reduction": 3}, "reduction 3 does not divide the width 16"),
        ({"gate": "relu"}, "gate must be one of"),
        ({"gradient": "none"}, "gradient must be one of"),
        ({"classes": 0}, "classes must be a positive integer"),
        ({"input_shape": (32, 32)}, "input_shape must be"),
        ({"activations": "ternary"}, "activations must be one of"),
        ({"gate": None}, "fmb needs a gate"),
        ({"blocks": 2}, "blocks must be numbers, not 2"),
        ({"mean": 125}, "mean must be numbers, not 125"),
        ({"input_shape": (None, None, 3)}, "input_shape must be numbers"),
        ({"input_shape": (0, 32, 3)}, "input_shape must be"),
        ({"variance": (-1, 1, 1)}, "variance must be 0 or more"),
        ({"mean": (float("nan"), 1, 1)}, "mean must be finite"),
        ({"classes": True}, "classes must be a positive integer"),
        ({"mean": (0.0,)}, "mean and variance need a value for each of the 3 channels"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        SEResNet14Bin(**arguments)


def test_an_image_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected shape=\(None, 32, 32, 3\)"):
        SEResNet14Bin(width=4)(np.zeros((1, 28, 28, 1), np.float32))


def test_the_network_standardizes(images):
    model = SEResNet14Bin(width=4, mean=(10, 20, 30), variance=(4, 9, 16))
    standardize = tf.keras.Model(model.input, model.get_layer("standardize").output)

    expected = (images.astype(np.float32) - [10, 20, 30]) / [2, 3, 4]
    np.testing.assert_allclose(standardize(images), expected, rtol=1e-6)


def test_weights_come_from_a_saved_network(images, tmp_path):
    saved = SEResNet14Bin(width=4, gate="tanh")
    saved.save(tmp_path / "model.keras")

    model = SEResNet14Bin(width=4, gate="tanh", weights=tmp_path / "model.keras")

    assert np.array_equal(model(images), saved(images))


def test_half_a_file_of_weights(tmp_path):
    SEResNet14Bin(width=4).save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(OSError, match=r"half\.keras is no readable \.keras file"):
        SEResNet14Bin(width=4, weights=tmp_path / "half.keras")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_of_mixed_precision_is_rebuilt_in_float32(variant, images):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    mixed = VARIANTS[variant](width=4, fmb=True)
    tf.keras.mixed_precision.set_global_policy("float32")
    expected = VARIANTS[variant](width=4, fmb=True)
    expected.set_weights(mixed.get_weights())

    rebuilt = to_float32(mixed)

    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    assert np.array_equal(rebuilt(images), expected(images))
