import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import pretrained
from larq_seresnet.models import SEResNet14
from training import UserError
from training.trainer import answers, data, fit, targets
from training.trainer.augmentation import Augmentation

CLASSES = 10


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture
def teacher():
    pixels = tf.keras.Input((32, 32, 3))
    x = tf.keras.layers.Rescaling(1 / 255)(tf.keras.layers.AveragePooling2D(8)(pixels))
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.Dense(CLASSES, "softmax", kernel_initializer="random_uniform")(x)
    return tf.keras.Model(pixels, x)


def batches(dataset, smoothing=0.0):
    return data.training_batches(
        targets.one_hot(dataset, smoothing).train,
        Augmentation(),
        batch_size=50,
        seed=0,
        epochs=range(1),
    )


def test_labels_are_smoothed_in_training_alone(digits):
    soft = targets.one_hot(digits, 0.1)

    labels = soft.train[1]
    assert (labels.dtype, labels.shape) == (np.float32, (len(digits.train[1]), CLASSES))
    assert labels.argmax(axis=1).tolist() == digits.train[1].tolist()
    np.testing.assert_allclose(labels.max(axis=1), 0.91, rtol=1e-6)
    np.testing.assert_allclose(labels.min(axis=1), 0.01, rtol=1e-6)
    for split, plain in ((soft.validation, digits.validation), (soft.test, digits.test)):
        assert np.array_equal(split[1], np.eye(CLASSES)[plain[1]])


def test_smoothed_labels_give_the_loss_of_keras_label_smoothing(digits):
    probabilities = tf.nn.softmax(tf.random.normal([len(digits.train[1]), CLASSES]))

    ours = tf.keras.losses.CategoricalCrossentropy()(
        targets.one_hot(digits, 0.2).train[1], probabilities
    )

    theirs = tf.keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(
        targets.one_hot(digits, 0).train[1], probabilities
    )
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_teacher_answers_the_augmented_images(digits, teacher, weight, temperature):
    images, labels = next(iter(batches(digits, 0.1)))
    asked = answers.log_probabilities(teacher)
    mixed = targets.distill(batches(digits, 0.1), asked, weight, temperature)

    same_images, found = next(iter(mixed))

    assert np.array_equal(same_images, images)
    softened = teacher(images).numpy() ** (1 / temperature)
    softened /= softened.sum(axis=1, keepdims=True)
    expected = (1 - weight) * labels + weight * softened
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_teacher_is_asked_once_for_each_batch(digits, teacher, tmp_path):
    asked = []

    def count(images):
        asked.append(images)
        return answers.log_probabilities(teacher)(images)

    def all_answers():
        known = answers.stored(lambda x: tf.py_function(count, [x], tf.float32), path, CLASSES)
        return [targets.numpy() for _, targets in targets_of(known)]

    def targets_of(known):
        return targets.distill(batches(digits), known, 1.0, 2.0)

    path = answers.place(teacher, str(tmp_path / "new"))
    first = all_answers()
    assert len(asked) == len(first) == 25
    again = all_answers()
    assert len(asked) == 25
    assert all(map(np.array_equal, first, again))
    exact = targets_of(answers.log_probabilities(teacher))
    np.testing.assert_allclose(first, [found for _, found in exact], atol=1e-3)


def test_other_weights_have_other_answers(teacher, tmp_path):
    place = answers.place(teacher, str(tmp_path))
    teacher.set_weights([2 * weights for weights in teacher.get_weights()])

    assert place != answers.place(teacher, str(tmp_path))


def test_answers_that_cannot_be_kept(digits, teacher, tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database" * 100)
    asked = answers.log_probabilities(teacher)
    with pytest.raises(UserError, match=r"kept in .*answers\.sqlite .*: delete it, or"):
        answers.stored(asked, path, CLASSES)

    path.unlink()
    known = answers.stored(asked, path, CLASSES)
    images, _ = next(iter(batches(digits)))
    right = known(images)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET answer = substr(answer, 8)")
    assert np.array_equal(known(images), right), "a damaged answer was believed"


def test_a_teacher_is_a_run_a_file_or_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    model = SEResNet14(width=4)
    run = tmp_path / "run"
    run.mkdir()
    model.save(run / "model.keras")
    (run / "config.json").write_text(json.dumps({"config": {"dataset": "digits"}}))
    pretrained.save(tmp_path / "seresnet14-digits.npz", model, {"dataset": "digits"})

    for name in (str(run), str(run / "model.keras"), "digits"):
        teacher = targets.load_teacher(name, "digits", data.SOURCES["digits"])
        assert np.array_equal(teacher.get_weights()[0], model.get_weights()[0])


def test_a_teacher_of_own_pictures(tmp_path):
    run, photos = tmp_path / "run", tmp_path / "photos"
    for folder in (run, photos):
        folder.mkdir()
    SEResNet14(width=4, classes=2).save(run / "model.keras")
    facts = {"config": {"dataset": f"{photos}/"}, "labels": ["cat", "dog"]}
    (run / "config.json").write_text(json.dumps(facts))
    source = replace(data.SOURCES["cifar10"], labels=("cat", "dog"))

    assert targets.load_teacher(str(run), f"{photos}/", source)
    with pytest.raises(UserError, match="has learned other classes than those of others/"):
        targets.load_teacher(str(run), "others/", replace(source, labels=("cat", "fox")))


def test_teachers_that_cannot_teach(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"--distill nobody: .* no weights 'nobody' for seresnet14"):
        targets.load_teacher("nobody", "digits", data.SOURCES["digits"])
    pretrained.save(tmp_path / "seresnet14-digits.npz", SEResNet14(width=4), {"dataset": "digits"})
    with pytest.raises(UserError, match="--distill digits has learned digits, not cifar10"):
        targets.load_teacher("digits", "cifar10", data.SOURCES["cifar10"])
    SEResNet14(width=4, classes=3).save(tmp_path / "three.keras")
    with pytest.raises(UserError, match="has 3 classes, digits others"):
        targets.load_teacher(str(tmp_path / "three.keras"), "digits", data.SOURCES["digits"])
    model = SEResNet14(width=4)
    tf.keras.Model(model.input, model.get_layer("logits").output).save(tmp_path / "logits.keras")
    with pytest.raises(UserError, match="does not answer with probabilities: it lacks a softmax"):
        targets.load_teacher(str(tmp_path / "logits.keras"), "digits", data.SOURCES["digits"])


def test_a_run_without_its_teacher_leaves_no_run_behind(tmp_path):
    arguments = ["--dataset", "digits", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="--distill nobody"):
        fit.main([*arguments, "--distill", "nobody"])

    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_with_a_teacher_is_resumed_as_if_nothing_had_happened(tmp_path):
    SEResNet14(width=4).save(tmp_path / "teacher.keras")
    flags = [
        *(
            "--dataset",
            "digits",
            "--width",
            "4",
            "--blocks",
            "1",
            "1",
            "--schedule",
            "constant",
            "--cutout",
            "8",
        ),
        *("--distill", str(tmp_path / "teacher.keras"), "--distill-weight", "0.5"),
        *("--label-smoothing", "0.1", "--distinct-epochs", "2", "--cache-dir", str(tmp_path)),
    ]

    fit.main([*flags, "--epochs", "3", "--out", str(tmp_path / "whole")])
    for epochs in ("1", "3"):
        tf.keras.backend.clear_session()
        fit.main([*flags, "--epochs", epochs, "--out", str(tmp_path / "resumed")])

    whole, resumed = (
        tf.keras.models.load_model(tmp_path / name / "model.keras").get_weights()
        for name in ("whole", "resumed")
    )
    assert all(map(np.array_equal, whole, resumed))
