import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.models import SEResNet14Bin
from training import fit
from training.calibration import calibrate
from training.config import Config
from training.fused import fused


def images(batches, size):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, 8, 8, 3)).astype(np.uint8) for _ in range(batches)]


def norms(model):
    layers = model._flatten_layers()
    return [x for x in layers if isinstance(x, tf.keras.layers.BatchNormalization)]


def test_statistics_are_the_mean_over_the_batches():
    model = SEResNet14Bin(width=4, input_shape=(8, 8, 3))
    batches = images(3, 16)
    first = tf.keras.Model(model.input, model.get_layer("conv").output)
    seen = [first(batch).numpy().reshape(-1, 4) for batch in batches]

    calibrate(model, batches)

    norm = model.get_layer("bn")
    mean = np.mean([values.mean(axis=0) for values in seen], axis=0)
    variance = np.mean([values.var(axis=0) for values in seen], axis=0)
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-2)
    assert norm.momentum == 0.9


@pytest.mark.parametrize("activations", ["float", "binary"])
def test_all_norms_and_nothing_else_change(activations):
    model = SEResNet14Bin(width=4, input_shape=(8, 8, 3), activations=activations)
    before = [variable.numpy() for variable in model.variables]

    calibrate(fused(model, shards=2), images(2, 32))

    moving = {x.ref() for norm in norms(model) for x in (norm.moving_mean, norm.moving_variance)}
    assert len(moving) == 2 * len(norms(model))
    for variable, old in zip(model.variables, before, strict=True):
        assert np.array_equal(variable, old) != (variable.ref() in moving), variable.name


def test_a_run_is_calibrated_after_its_last_epoch(tmp_path):
    settings = {"dataset": "digits", "width": 4, "batch_size": 128, "epochs": 2, "fmb": True}
    weights = []
    for calibration in (0, 5):
        run = Config(**settings, calibration=calibration, out=tmp_path / str(calibration))
        fit.fit(run)
        path = run.folder / "model.keras"
        model = tf.keras.models.load_model(path, compile=False)
        weights.append({variable.name: variable.numpy() for variable in model.variables})
    changed = {
        name for name, value in weights[0].items() if not np.array_equal(value, weights[1][name])
    }
    assert changed
    assert all("moving_" in name for name in changed)


def test_it_needs_one_process():
    with pytest.raises(ValueError, match="--calibration needs --distribute none"):
        Config(calibration=10, distribute="mirrored")
