"""From a folder of pictures to a file on a device."""

import csv
import json
import logging

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import datasets, models
from larq_seresnet.convert.__main__ import main as convert
from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.__main__ import main as edge
from larq_seresnet.edge.images import load_image
from tests.pictures import save, write_folder
from training.trainer import data, fit, targets
from training.trainer.augmentation import Augmentation
from training.trainer.config import Config

SMALL = ["--fmb", "--width", "4", "--blocks", "1", "1", "--batch-size", "16"]


def striped(count, size=24):
    """Noise with lines that lie or stand, and which of both."""
    random = np.random.default_rng(0)
    kinds = random.permutation(count) % 3
    images = random.integers(100, 156, (count, size, size, 3))
    for image, kind in zip(images, kinds, strict=True):
        at = random.integers(4) + np.arange(0, size - 4, 4)
        if kind != 2:
            image[(at, slice(None)) if kind else (slice(None), at)] += 90
    return images.astype(np.uint8), [("stripes\u2502", "lines", "noise")[kind] for kind in kinds]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes, one of them rare."""
    root = tmp_path_factory.mktemp("own") / "my photos"
    images, labels = striped(240)
    rare = [i for i, label in enumerate(labels) if label == "noise"][30:]
    kept = [i for i in range(len(labels)) if i not in rare]
    write_folder(root, images[kept], [labels[i] for i in kept])
    return root


def train(photos, folder, *flags):
    cache = ["--cache-dir", str(folder.parent / "cache"), "--out", str(folder)]
    fit.main([*SMALL, "--dataset", str(photos), *cache, *flags])


def on_device(file, pictures, capsys):
    """The labels that the command gives."""
    capsys.readouterr()
    assert edge(["classify", str(file), *map(str, pictures), "--top", "1", "--json"]) == 0
    return [entry["classes"][0]["label"] for entry in json.loads(capsys.readouterr().out)]


def agreement(run, pictures, labels, found):
    """For how many of the pictures the run's network says what was found."""
    network = tf.keras.models.load_model(run / "model.keras", compile=False)
    images = np.stack([load_image(path, *network.input_shape[1:]) for path in pictures])
    numbers = network.predict(images, verbose=0).argmax(axis=1)
    return np.mean([labels[i] == name for i, name in zip(numbers, found, strict=True)])


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        ("litert", ["--size", "40x32", "--class-weights", "balanced"]),
        ("lce", ["--size", "32", "--grey", "--activations", "binary", "--flip", "none"]),
    ],
)
def test_from_a_folder_to_a_device(photos, tmp_path, capsys, target, flags):
    train(photos, tmp_path / "run", "--epochs", "2", *flags)
    file = tmp_path / "own.tflite"
    arguments = [str(tmp_path / "run"), "--target", target, "--out", str(file)]
    assert convert(arguments) == 0

    model = Interpreter(str(file))
    labels = ["lines", "noise", "stripes\u2502"]
    assert model.labels == labels
    assert model.metadata["dataset"] == "my photos"
    assert model.metadata["verified_on"] == "my photos"
    pictures = sorted((photos / "lines").iterdir())
    found = on_device(file, pictures, capsys)
    assert agreement(tmp_path / "run", pictures, labels, found) > 0.97

    by_class = rows(tmp_path / "run" / "classes.csv")
    assert [row["class"] for row in by_class] == labels
    matrix = rows(tmp_path / "run" / "confusion.csv")
    assert [sum(int(row[name]) for name in labels) for row in matrix] == [
        int(row["pictures"]) for row in by_class
    ]
    wrong = sum(int(row[name]) for row in matrix for name in labels if row["class"] != name)
    mistakes = rows(tmp_path / "run" / "mistakes.csv")
    assert len(mistakes) == wrong
    assert all((photos / row["picture"]).exists() for row in mistakes)
    sure = [float(row["probability"]) for row in mistakes]
    assert sure == sorted(sure, reverse=True)
    assert (tmp_path / "run" / "confusion.png").exists()
    assert (tmp_path / "run" / "mistakes.png").exists() == bool(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kept", "flags", "least"),
    [
        # Half as much again as by chance.
        ("cifar10", {"ship": 400, "frog": 400, "horse": 60}, ["--class-weights", "balanced"], 0.5),
        # Twelve epochs of so few house numbers teach nothing.
        ("svhn_cropped", {"1": 600, "4": 400}, ["--flip", "none", "--grey"], 0),
    ],
)
def test_real_pictures_from_files_to_a_device(name, kept, flags, least, tfds_dir, tmp_path, capsys):
    """Of many formats and sizes; one set with uneven classes."""
    images, numbers = datasets.read(name, "train", 6000, data_dir=tfds_dir)
    labels = np.array(datasets.SOURCES[name].labels)[numbers]
    chosen = np.concatenate([np.flatnonzero(labels == k)[:count] for k, count in kept.items()])
    write_folder(tmp_path / "photos", images[chosen], labels[chosen])
    flags = ["--dataset", str(tmp_path / "photos"), "--size", "48", "--width", "8", *flags]
    flags += ["--blocks", "1", "1", "1", "--fmb", "--batch-size", "32", "--epochs", "12"]
    flags += ["--cache-dir", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    fit.main(flags)
    file = tmp_path / "own.tflite"
    assert convert([str(tmp_path / "run"), "--target", "litert", "--out", str(file)]) == 0

    others = [np.flatnonzero(labels == k)[count:][:60] for k, count in kept.items()]
    unseen = np.concatenate(others)
    write_folder(tmp_path / "unseen", images[unseen], labels[unseen])
    pictures = sorted((tmp_path / "unseen").rglob("*.*"))
    found = on_device(file, pictures, capsys)
    assert agreement(tmp_path / "run", pictures, sorted(kept), found) > 0.97
    right = np.mean([a == b.parent.name for a, b in zip(found, pictures, strict=True)])
    assert right > least


def test_a_run_is_resumed_with_the_same_pictures_alone(tmp_path):
    images, labels = striped(90)
    write_folder(tmp_path / "own", images, labels)
    flags = ["--schedule", "constant", "--epochs"]
    train(tmp_path / "own", tmp_path / "run", *flags, "1")
    train(tmp_path / "own", tmp_path / "run", *flags, "2")
    before = (tmp_path / "run" / "model.keras").read_bytes()

    save(tmp_path / "own" / "lines" / "new.png", images[0])
    with pytest.raises(SystemExit, match="the pictures have changed since the run"):
        train(tmp_path / "own", tmp_path / "run", *flags, "3")
    assert (tmp_path / "run" / "model.keras").read_bytes() == before


def test_what_is_skipped_is_written_down(photos, tmp_path, caplog):
    images, labels = striped(90)
    write_folder(tmp_path / "own", images, labels)
    (tmp_path / "own" / "lines" / "a, b\n.png").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "own", tmp_path / "run", "--epochs", "1")
    (row,) = rows(tmp_path / "run" / "skipped.csv")
    assert row["picture"] == "lines/a, b\\n.png"
    assert "not a PNG" in row["why"]
    with pytest.raises(SystemExit, match="--strict: lines/a, b"):
        train(tmp_path / "own", tmp_path / "strict", "--strict")
    assert not (tmp_path / "strict").exists()


def test_pictures_are_read_as_they_are_needed(photos, tmp_path):
    for name, flags in (("cached", []), ("decoded", ["--no-cache"])):
        train(photos, tmp_path / name, "--epochs", "2", *flags)
    cached, decoded = (
        [row["loss"] for row in rows(tmp_path / name / "log.csv")] for name in ("cached", "decoded")
    )
    assert cached == decoded


def test_a_pretrained_network_learns_other_classes(photos, tmp_path, capsys):
    cache = ["--cache-dir", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    common = ["--fmb", "--dataset", str(photos), "--batch-size", "32", "--epochs", "2", *cache]
    fit.main([*common, "--start-from", "cifar10", "--freeze-body", "1"])

    assert (
        "starting from cifar10, all of its weights but the last layer's" in capsys.readouterr().out
    )
    run = json.loads((tmp_path / "run" / "config.json").read_text())
    assert run["config"]["width"] == 16  # as the pretrained network has it
    pretrained = models.SEResNet14Bin(weights="cifar10")
    trained = tf.keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert trained.output_shape == (None, 3)
    assert trained.count_params() < pretrained.count_params()
    with pytest.raises(SystemExit, match="no weights 'cifar10' for seresnet14_bin_w8, only"):
        fit.main([*common[:-1], str(tmp_path / "b"), "--width", "8", "--start-from", "cifar10"])


def test_the_body_is_frozen_for_some_epochs(photos, tmp_path):
    train(photos, tmp_path / "first", "--epochs", "1")
    flags = [*SMALL, "--dataset", str(photos), "--cache-dir", str(tmp_path / "cache")]
    flags += ["--start-from", str(tmp_path / "first"), "--seed", "1", "--learning-rate", "0.01"]
    flags += ["--out", str(tmp_path / "run"), "--epochs", "3", "--freeze-body", "2"]
    seen = []

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({weight.name: weight.numpy() for weight in self.model.weights})

    fit.fit(fit.flags.parse(Config, "fit", "", flags), callbacks=[Watch()])

    def changed(before, after):
        return {name for name in before if not np.array_equal(before[name], after[name])}

    assert all("dense" in name for name in changed(seen[0], seen[1]))
    assert changed(seen[0], seen[1])
    assert any("moving_mean" in name for name in changed(seen[1], seen[2]))
    assert any("conv1/kernel" in name for name in changed(seen[1], seen[2]))
    saved = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    assert all(layer.trainable for layer in saved.layers)


@pytest.mark.slow
def test_a_frozen_run_that_was_cut_off_goes_on_to_the_bit(photos, tmp_path):
    train(photos, tmp_path / "first", "--epochs", "1")
    flags = ["--start-from", str(tmp_path / "first"), "--freeze-body", "1", "--epochs", "3"]
    train(photos, tmp_path / "whole", *flags)

    class Stop(tf.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    parse = fit.flags.parse
    arguments = [*SMALL, "--dataset", str(photos), "--cache-dir", str(tmp_path / "cache"), *flags]
    config = parse(Config, "fit", "", [*arguments, "--out", str(tmp_path / "cut")])
    with pytest.raises(KeyboardInterrupt):
        fit.fit(config, callbacks=[Stop()])
    fit.fit(config)
    networks = [
        tf.keras.models.load_model(tmp_path / name / "model.keras", compile=False).get_weights()
        for name in ("whole", "cut")
    ]
    assert all(map(np.array_equal, *networks))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"color_jitter": 0.4},
        {"flip": "both"},
        {"cutout": 6},
        pytest.param({"trivial": True}, marks=pytest.mark.slow),
    ],
)
def test_augmentation_follows_from_the_seed(channels, changes):
    images = np.random.default_rng(0).integers(0, 256, (40, 20, 28, channels), dtype=np.uint8)
    split = (images, np.arange(40))

    def batches(seed):
        stream = data.training_batches(
            split,
            Augmentation(**{"padding": 0, **changes}),
            batch_size=20,
            seed=seed,
            epochs=range(2),
        )
        return [(x.numpy(), y.numpy()) for x, y in stream]

    first, again, other = batches(0), batches(0), batches(1)
    assert all(np.array_equal(x, y) for (x, _), (y, _) in zip(first, again, strict=True))
    assert not all(np.array_equal(x, y) for (x, _), (y, _) in zip(first, other, strict=True))
    for shown, numbers in first:
        assert shown.dtype == np.uint8
        assert shown.shape == (20, 20, 28, channels)
        changed = [not np.array_equal(x, images[i]) for x, i in zip(shown, numbers, strict=True)]
        assert any(changed)
    if "flip" in changes:
        for shown, numbers in first:
            for image, number in zip(shown, numbers, strict=True):
                original = images[number]
                ways = [original, original[::-1], original[:, ::-1], original[::-1, ::-1]]
                assert any(np.array_equal(image, way) for way in ways)


@pytest.mark.parametrize("soft", [False, True])
def test_all_classes_weigh_the_same(soft):
    labels = np.array([0] * 60 + [1] * 30 + [3] * 10)
    images = np.zeros((100, 4, 4, 1), np.uint8)
    answers = np.eye(4, dtype=np.float32)[labels] if soft else labels
    batches = tf.data.Dataset.from_tensor_slices((images, answers)).batch(100)
    ((_, _, weights),) = targets.weighted(batches, answers)
    for number in (0, 1, 3):
        assert weights.numpy()[labels == number].sum() == pytest.approx(100 / 3, rel=1e-5)
