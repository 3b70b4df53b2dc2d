import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models, pretrained
from larq_seresnet.architecture import Architecture
from larq_seresnet.models import SEResNet14, SEResNet14Bin
from larq_seresnet.prune import prune
from training.publishing import export
from training.trainer import data

VARIANTS = {
    "seresnet14": SEResNet14,
    "seresnet14_bin": SEResNet14Bin,
    "seresnet14_fully_binary": lambda **arguments: SEResNet14Bin(activations="binary", **arguments),
}
METADATA = {
    "dataset": "digits",
    "labels": list("0123456789"),
    "images": {"train": 1294, "validation": 143, "test": 360},
    "test_error": 1.25,
    "training": "python -m training.fit --dataset digits",
    "licence": "CC BY 4.0",
}


def learned(model):
    """The model with weights that nothing starts with."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(0.1, 0.9, w.shape) * rng.choice([-1, 1], w.shape) ** (w.ndim > 1)
         for w in model.get_weights()]
    )  # fmt: skip
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Instead of the package's folder of weights."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.npz"
    pretrained.save(path, learned(SEResNet14Bin(width=4)), METADATA)
    return path


@pytest.mark.parametrize("network", VARIANTS)
def test_a_file_gives_the_same_probabilities_to_the_last_bit(network, images, folder):
    model = learned(VARIANTS[network](width=4))
    pretrained.save(folder / f"{network}_w4-digits.npz", model, METADATA)

    loaded = VARIANTS[network](width=4, weights="digits")

    assert np.array_equal(loaded(images), model(images))
    assert pretrained.load("digits", model.name).metadata == METADATA
    stored = pretrained.load(f"{network}_w4-digits")
    built = models.build(stored.architecture, stored.weights)
    assert np.array_equal(built(images), model(images))


def test_of_one_bit_kernels_the_signs_are_kept(tmp_path, images):
    model = learned(SEResNet14Bin(width=4))
    latent = model.get_layer("conv").kernel.latent_variable
    latent.assign(tf.zeros_like(latent))
    pretrained.save(tmp_path / "model.npz", model, METADATA)

    loaded = SEResNet14Bin(width=4, weights=tmp_path / "model.npz")

    kernels = [w for w in loaded.weights if "kernel" in w.name]
    assert all(set(np.unique(kernel.latent_variable)) <= {-1, 1} for kernel in kernels)
    assert set(np.unique(loaded.get_layer("conv").kernel.latent_variable)) == {1}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(images, training=True)[:, 0])
    gradients = tape.gradient(loss, loaded.trainable_weights)
    assert np.any(gradients[0]), "no gradient reaches a latent weight of +1 or -1"


def test_width_16_takes_some_tens_of_kilobytes(tmp_path):
    pretrained.save(tmp_path / "model.npz", learned(SEResNet14Bin()), METADATA)

    assert (tmp_path / "model.npz").stat().st_size < 40_000


def test_a_file_can_be_read_with_numpy_alone(file):
    with np.load(file) as archive:
        facts = json.loads(archive["metadata"].tobytes())
        bits, values = archive["bits"], archive["values"]

    sizes = {1: 0, 32: 0}
    for weight in facts["weights"]:
        sizes[weight["bits"]] += np.prod(weight["shape"])
    assert facts["weights"][0] == {"name": "conv/kernel:0", "shape": [3, 3, 3, 4], "bits": 1}
    assert (bits.dtype, bits.size) == (np.uint8, -(-sizes[1] // 8))
    assert (values.dtype, values.size) == (np.float32, sizes[32])


def test_a_damaged_file_is_one_clear_error(file):
    whole = file.read_bytes()
    expected = pretrained.load(file)
    rng = np.random.default_rng(0)
    refused = []
    for position in rng.choice(len(whole), 200, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            found = pretrained.load(file)
        except OSError as error:
            refused.append(str(error))
        else:  # a bit of the archive that means nothing, such as a date
            assert found.metadata == expected.metadata
            assert all(map(np.array_equal, found.weights, expected.weights))
    assert len(refused) > 150
    assert all(f"{file} is no readable file of weights" in message for message in refused)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(OSError, match="no readable file of weights"):
            SEResNet14Bin(width=4, weights=file)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "bomb.npz", metadata=np.array([Bomb()], dtype=object))

    with pytest.raises(OSError, match="no readable file of weights"):
        pretrained.load(tmp_path / "bomb.npz")

    assert not (tmp_path / "ran").exists()


def test_a_changed_weight_does_not_pass_the_checksum(file):
    with np.load(file) as archive:
        parts = dict(archive)
    parts["values"][3] += 1
    np.savez(file, **parts)

    with pytest.raises(OSError, match="checksum"):
        pretrained.load(file)


each_format = pytest.mark.parametrize("suffix", [".npz", ".keras"])


def store(model, path):
    model.save(path) if path.suffix == ".keras" else pretrained.save(path, model, METADATA)


@each_format
@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 8},
        {"fmb": False},
        {"gate": "tanh"},
        {"reduction": 2},
        {"activations": "binary"},
        {"gate": None, "fmb": False},
        {"variance": (1.0, 1.0, 1.0)},
    ],
    ids=str,
)
def test_arguments_that_contradict_the_weights(arguments, suffix, tmp_path):
    store(SEResNet14Bin(width=4), path := tmp_path / f"model{suffix}")

    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.* contradicts the weights"):
        SEResNet14Bin(**{"width": 4, **arguments, "weights": path})


def test_for_other_classes_the_dense_layer_is_new(file, images):
    own = {"classes": 3, "mean": (1, 2, 3), "variance": (4, 5, 6), "input_shape": (40, 48, 3)}
    model = SEResNet14Bin(width=4, weights=file, **own)

    trained = SEResNet14Bin(width=4, weights=file)
    assert Architecture.of(model) == Architecture(width=4, fmb=True, **own)
    for layer in trained.layers:
        for ours, theirs in zip(
            model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
        ):
            assert np.array_equal(ours, theirs) == (layer.name != "dense")


def test_with_other_classes_all_else_must_agree(file):
    with pytest.raises(ValueError, match="gate='tanh' contradicts the weights"):
        SEResNet14Bin(width=4, weights=file, classes=3, gate="tanh")
    with pytest.raises(ValueError, match=r"input_shape=\(32, 32, 1\) contradicts the weights"):
        SEResNet14Bin(
            width=4, weights=file, classes=3, input_shape=(32, 32, 1), mean=(0,), variance=(1,)
        )


def test_the_dense_layer_may_stay_though_the_classes_are_as_many(file):
    model = SEResNet14Bin(width=4, mean=(1, 2, 3))
    before = model.get_weights()
    trained = pretrained.load(file)
    with pytest.raises(ValueError, match=r"mean=.* contradicts"):
        models.take_body(model, trained, dense=True)
    assert all(map(np.array_equal, before, model.get_weights()))

    models.take_body(model, trained)

    assert all(map(np.array_equal, model.get_weights()[:-2], trained.weights[:-2]))
    assert np.array_equal(model.get_weights()[-2], before[-2])


def test_pruned_weights_are_refused(tmp_path, images):
    prune(SEResNet14Bin(width=4), images, threshold=0.9).save(tmp_path / "pruned.keras")

    with pytest.raises(ValueError, match=r"pruned\.keras are those of a pruned network"):
        SEResNet14Bin(width=4, weights=tmp_path / "pruned.keras")


def test_classes_and_shape_come_with_the_weights(tmp_path):
    own = {"classes": 3, "mean": (9.0,), "variance": (4.0,), "input_shape": (40, 48, 1)}
    pretrained.save(tmp_path / "own.npz", SEResNet14Bin(width=4, **own), METADATA)

    model = SEResNet14Bin(width=4, weights=tmp_path / "own.npz")

    assert Architecture.of(model) == Architecture(width=4, fmb=True, **own)


def test_weights_of_the_other_builder(file):
    with pytest.raises(ValueError, match="are those of SEResNet14Bin, not SEResNet14"):
        SEResNet14(width=4, fmb=True, weights=file)


def test_the_normalization_comes_with_the_weights(tmp_path):
    model = SEResNet14Bin(width=4, mean=(1, 2, 3), variance=(4, 5, 6))
    pretrained.save(tmp_path / "model.npz", model, METADATA)

    loaded = SEResNet14Bin(width=4, weights=tmp_path / "model.npz")

    assert np.ravel(loaded.get_layer("standardize").mean).tolist() == [1, 2, 3]


def test_what_changes_no_output_is_free(file, images):
    arguments = {"gradient": "cut", "attention_scale": True, "input_shape": (32, 32, 3)}
    model = SEResNet14Bin(width=4, weights=file, **arguments)

    assert np.array_equal(model(images), SEResNet14Bin(width=4, weights=file)(images))
    larger = SEResNet14Bin(width=4, weights=file, input_shape=(48, 40, 3))
    assert larger.output_shape == (None, 10)


def test_without_fmb_the_scale_changes_the_outputs(tmp_path):
    path = tmp_path / "model.npz"
    pretrained.save(path, SEResNet14Bin(width=4, fmb=False), METADATA)

    with pytest.raises(ValueError, match="attention_scale=True contradicts the weights"):
        SEResNet14Bin(width=4, fmb=False, attention_scale=True, weights=path)


@pytest.mark.parametrize("arguments", [{"attention_scale": True}, {"gate": "none"}])
def test_networks_without_fmb_have_weights_of_their_own(arguments, folder, images):
    trained = SEResNet14Bin(fmb=False, **arguments)
    pretrained.save(folder / f"{trained.name}-digits.npz", trained, METADATA)

    (name,) = pretrained.names()
    assert name == "seresnet14_bin_no_fmb-digits"
    assert pretrained.load(name).call == 'SEResNet14Bin(fmb=False, weights="digits")'
    loaded = SEResNet14Bin(fmb=False, weights="digits")
    assert np.array_equal(loaded(images), trained(images))
    with pytest.raises(ValueError, match=f"only: {name}"):
        SEResNet14Bin(weights="digits")


def test_what_is_given_is_what_contradicts(tmp_path):
    pretrained.save(path := tmp_path / "model.npz", SEResNet14Bin(attention_scale=True), METADATA)

    with pytest.raises(ValueError, match="gate='none' contradicts the weights model"):
        SEResNet14Bin(gate=None, fmb=False, weights=path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes must be a positive integer"),
        ({"input_shape": (64, 64)}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": (28, 28, 1), "classes": 3}, "each of the 1 channels.* with the weights"),
        ({"mean": (1, 2), "classes": 3}, "mean and variance need a value"),
    ],
)
def test_what_is_given_and_wrong_is_not_left_out(file, arguments, message):
    with pytest.raises(ValueError, match=message):
        SEResNet14Bin(width=4, weights=file, **arguments)


def test_numbers_may_be_numpys(file):
    model = SEResNet14Bin(width=np.int64(4), weights=file, classes=np.array([0, 2]).max() + 1)
    assert model.output_shape == (None, 3)


@each_format
def test_what_is_not_given_comes_with_the_weights(suffix, tmp_path, images):
    own = {"width": 8, "reduction": 2, "gate": "tanh", "attention_scale": True, "blocks": (1, 2)}
    model = SEResNet14Bin(**own)
    store(model, path := tmp_path / f"model{suffix}")

    loaded = SEResNet14Bin(weights=path)

    assert Architecture.of(loaded) == Architecture(**own, fmb=True)
    assert np.array_equal(loaded(images), model(images))


def test_names_without_a_file_list_those_there_are(folder):
    with pytest.raises(ValueError, match=r"no weights 'cifar10' for seresnet14_bin, only: none"):
        SEResNet14Bin(weights="cifar10")
    for name in ("seresnet14-cifar10", "seresnet14_bin-digits"):
        pretrained.save(folder / f"{name}.npz", SEResNet14Bin(width=4), METADATA)
    with pytest.raises(ValueError, match=r"only: seresnet14-cifar10, seresnet14_bin-digits; or"):
        SEResNet14Bin(weights="cifar10")
    with pytest.raises(ValueError, match=r"no weights 'digits' for seresnet14_bin_w64, only"):
        SEResNet14Bin(width=64, weights="digits")


def test_weights_that_are_not_there(tmp_path):
    for name in ("missing.npz", "missing.keras"):
        with pytest.raises(OSError, match=name):
            SEResNet14Bin(weights=tmp_path / name)


def test_networks_of_others_are_refused(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(ValueError, match="no SEResNet14 and no SEResNet14Bin"):
        pretrained.save(tmp_path / "model.npz", model, METADATA)
    assert not list(tmp_path.iterdir())
    model.save(tmp_path / "model.keras")
    with pytest.raises(OSError, match=r"no readable \.keras file of these networks"):
        SEResNet14Bin(weights=tmp_path / "model.keras")


@pytest.mark.parametrize("name", pretrained.names())
def test_a_packaged_network_is_the_builders_default(name):
    model = export.build(pretrained.FOLDER / f"{name}.npz")

    facts = pretrained.load(name).metadata
    assert name == f"{model.name}-{facts['dataset']}"
    assert len(facts["labels"]) == model.output_shape[-1]
    assert ("non-commercial" in facts["licence"]) == (facts["dataset"] == "svhn_cropped")


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.names())
def test_a_packaged_network_has_the_stated_error(name, tfds_dir):
    facts = pretrained.load(name).metadata
    images = len(data.load(facts["dataset"], tfds_dir).test[1])
    if images != facts["images"]["test"]:
        pytest.skip(f"needs the {facts['dataset']} of {facts['images']['test']} test images")
    model = export.build(pretrained.FOLDER / f"{name}.npz")

    error = export.top1_error(model, facts["dataset"], tfds_dir)

    assert error == pytest.approx(facts["test_error"], abs=0.05)


def test_the_packages_folder_is_small_and_has_its_table():
    assert sum(path.stat().st_size for path in pretrained.FOLDER.iterdir()) < 3_000_000
    assert (pretrained.FOLDER / "README.md").read_text() == export.table()


def test_the_table_tells_how_to_get_each_network(capsys):
    assert pretrained.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(pretrained.names())
    (line,) = [x for x in lines if x.startswith('SEResNet14Bin(weights="cifar10")')]
    error = pretrained.load("cifar10").metadata["test_error"]
    assert f" {error:.2f} " in line
    assert line.endswith("10,000 of cifar10")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_table_that_cannot_be_written(monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert pretrained.main([]) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
