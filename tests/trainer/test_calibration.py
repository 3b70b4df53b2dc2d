from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.models import SEResNet14Bin
from training.trainer import fit
from training.trainer.calibration import Calibration
from training.trainer.config import Config
from training.trainer.fused import fused
from training.trainer.run_folder import read_rows

SMALL = {"dataset": "digits", "width": 4, "blocks": (1, 1), "batch_size": 128, "fmb": True}


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

    Calibration(model).calibrate(batches)

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

    Calibration(fused(model, shards=2)).calibrate(images(2, 32))

    moving = {x.ref() for norm in norms(model) for x in (norm.moving_mean, norm.moving_variance)}
    assert len(moving) == 2 * len(norms(model))
    for variable, old in zip(model.variables, before, strict=True):
        assert np.array_equal(variable, old) != (variable.ref() in moving), variable.name


def test_momentum_is_restored_when_a_batch_fails():
    model = SEResNet14Bin(width=4, input_shape=(8, 8, 3))

    def failing():
        yield from images(1, 16)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Calibration(model).calibrate(failing())

    assert {norm.momentum for norm in norms(model)} == {0.9}


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: fused(model, shards=1)])
def test_statistics_are_those_of_the_gates_as_they_are_now(wrap):
    model = SEResNet14Bin(width=4, input_shape=(8, 8, 3))
    batches = images(2, 32)
    learner = wrap(model)
    learner.compile("adam")  # what `FMBSchedule` retraces
    calibration, schedule = Calibration(learner), FMBSchedule(1)
    schedule.set_model(learner)

    def statistics(calibration):
        calibration.calibrate(batches)
        return [norm.moving_variance.numpy() for norm in norms(model)]

    binarized = statistics(calibration)
    schedule.on_epoch_begin(1)
    soft = statistics(calibration)

    assert not all(map(np.array_equal, soft, binarized))
    assert all(map(np.array_equal, soft, statistics(Calibration(learner))))


def test_a_run_is_calibrated_after_its_last_epoch(tmp_path):
    settings = {**SMALL, "epochs": 2}
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


@pytest.mark.slow
def test_every_epoch_is_measured_with_and_without(tmp_path):
    settings = {**SMALL, "calibration": 5, "schedule": "constant"}
    runs = [
        Config(**settings, epochs=3, calibrated_log=log, out=tmp_path / str(log))
        for log in (False, True)
    ]
    for run in runs:
        fit.fit(replace(run, epochs=1))
        fit.fit(run)

    logs = [read_rows(run.folder / "log.csv") for run in runs]
    for row in logs[0] + logs[1]:
        del row["seconds"], row["images_per_second"]
    assert logs[0] == logs[1]  # what it adds changes nothing
    assert not (runs[0].folder / "calibrated.csv").exists()
    calibrated = read_rows(runs[1].folder / "calibrated.csv")
    assert [row["epoch"] for row in calibrated] == [1, 2, 3]
    ends = {row["epoch"]: row for row in read_rows(runs[1].folder / "results.csv")}
    for epoch in (1, 3):  # the rest is the difference between float32 and what trains
        assert calibrated[epoch - 1]["test_error"] == pytest.approx(
            ends[epoch]["test_error"], abs=2
        )
    assert [row["test_error"] for row in calibrated] != [row["test_error"] for row in logs[1]]


def test_a_calibrated_log_needs_batches():
    with pytest.raises(ValueError, match="--calibrated-log needs --calibration"):
        Config(calibrated_log=True)


def test_it_needs_one_process():
    with pytest.raises(ValueError, match="--calibration needs --distribute none"):
        Config(calibration=10, distribute="mirrored")
