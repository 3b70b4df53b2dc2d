import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA

from larq_seresnet.edge.images import load_image
from larq_seresnet.eigencam import __main__, eigencam, principal_component
from larq_seresnet.eigencam.overlay import overlay, rectify, upsample
from larq_seresnet.models import SEResNet14Bin


@pytest.fixture
def model(images):
    model = SEResNet14Bin(width=4)
    model(images, training=True)
    return model


@pytest.mark.parametrize("layer", ["block2_relu2", "block4_conv1", "block6_se"])
def test_it_is_the_first_principal_component(layer, model, images):
    heatmaps = eigencam(model, images, layer)

    features = tf.keras.Model(model.input, model.get_layer(layer).output)(images).numpy()
    assert heatmaps.shape == features.shape[:3]
    for heatmap, x in zip(heatmaps, features, strict=True):
        vectors = x.reshape(-1, x.shape[-1]).astype(np.float64)
        expected = PCA(n_components=1, svd_solver="full").fit_transform(vectors)[:, 0]
        expected *= np.sign(expected @ heatmap.ravel())  # a component has no sign of its own
        # Both are computed in float64; the heat map is rounded to float32.
        tolerance = np.finfo(np.float32).eps * np.abs(expected).max()
        np.testing.assert_allclose(heatmap.ravel(), expected, rtol=0, atol=tolerance)


def test_it_is_centred_and_positive_where_the_activations_are_high():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 5, 5, 3)) * 0.01
    features[0, 1, 2] += [3.0, 2.0, 0.0]
    features[0, 4, 4] -= [1.0, 0.5, 0.0]

    (heatmap,) = principal_component(features)

    # Centred in float64; every place is then rounded to float32.
    rounding = float(np.finfo(np.float32).eps * np.abs(heatmap).max())
    assert heatmap.mean(dtype=np.float64) == pytest.approx(0, abs=rounding)
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (1, 2)
    assert heatmap[4, 4] < 0


def test_nothing_varies():
    assert not principal_component(np.ones((2, 3, 3, 4))).any()


def test_batches_and_the_default_layer(model, images):
    whole = eigencam(model, images, "block6_relu2")
    # A batch of another size may sum in another order: float32 keeps some 7 digits of the largest.
    tolerance = 1e-5 * np.abs(whole).max()
    np.testing.assert_allclose(eigencam(model, images, batch_size=5), whole, atol=tolerance)


def test_any_keras_image_model():
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(5, 3, input_shape=(12, 10, 1)),
            tf.keras.layers.MaxPooling2D(name="pooled"),
            tf.keras.layers.Flatten(name="flat"),
            tf.keras.layers.Dense(2),
        ]
    )
    images = np.random.default_rng(0).uniform(size=(3, 12, 10, 1))

    assert eigencam(model, images).shape == (3, 5, 4)
    with pytest.raises(ValueError, match="'flat' is no feature map"):
        eigencam(model, images, "flat")
    with pytest.raises(ValueError, match=r"no layer 'pool'.*pooled"):
        eigencam(model, images, "pool")
    with pytest.raises(ValueError, match="do not fit inputs of"):
        eigencam(model, images[:, :5])


def test_a_model_whose_input_has_a_key():
    image = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model({"image": image}, tf.keras.layers.Conv2D(2, 3)(image))

    assert eigencam(model, np.ones((2, 8, 8, 3))).shape == (2, 6, 6)


def test_a_model_without_feature_maps():
    model = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(8, 8, 3))])

    with pytest.raises(ValueError, match="no layer's output is a feature map"):
        eigencam(model, np.ones((2, 8, 8, 3)))


def test_the_overlay_leaves_cold_places_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    heatmap = np.full((8, 8), -1.0, np.float32)
    heatmap[0, 0] = 2

    shown = overlay(image, heatmap)

    large = image.repeat(8, axis=0).repeat(8, axis=1)
    assert shown.shape == (256, 256, 3)
    assert np.array_equal(shown[128:, 128:], large[128:, 128:])
    assert not np.array_equal(shown[:32, :32], large[:32, :32])


def test_scaling():
    assert rectify(np.array([-2.0, 0.0, 4.0])).tolist() == [0, 0, 1]
    assert rectify(np.array([-2.0, -1.0])).tolist() == [0, 0]
    assert upsample(np.eye(2, dtype=np.float32)[None], 8, 6).shape == (1, 8, 6)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    tf.io.write_file(str(path), tf.io.encode_png(pixels))
    return path


def test_the_command_writes_overlays(model, photo, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), str(photo), "--out", str(tmp_path)]

    assert __main__.main(arguments) == 0

    assert load_image(tmp_path / "photo_eigencam.png", 256, 256, 3).any()
    assert __main__.main([*arguments, "--layer", "dense"]) == 1
    assert "'dense' is no feature map" in capsys.readouterr().err
    assert __main__.main([*arguments[:1], "nowhere.png"]) == 1
    assert "nowhere.png" in capsys.readouterr().err
