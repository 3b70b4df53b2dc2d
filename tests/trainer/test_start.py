import json
from dataclasses import fields, replace

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.architecture import Architecture, Hyperparameters
from larq_seresnet.prune import prune
from tests.test_architecture import OTHER
from training import UserError
from training.trainer import data, fit, network, start
from training.trainer.config import Config

SMALL = {"dataset": "digits", "width": 4, "blocks": (2, 1), "fmb": True}


def built(**changes):
    return network.build(Config(**SMALL, **changes), data.SOURCES["digits"])


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A pruned network of the digits, whose weights nobody trained."""
    path = tmp_path_factory.mktemp("models") / "pruned.keras"
    model = built()
    prune(model, data.load("digits").train[0][:50], threshold=0.6).save(path)
    return path


def test_a_pruned_network_is_trained_on(pruned, tmp_path):
    flags = ["--dataset", "digits", "--width", "4", "--blocks", "2", "1", "--fmb"]
    flags += ["--batch-size", "128", "--epochs", "1"]
    fit.main([*flags, "--start-from", str(pruned), "--out", str(tmp_path / "run")])

    trained = tf.keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    began = tf.keras.models.load_model(pruned, compile=False)
    assert [w.shape for w in trained.weights] == [w.shape for w in began.weights]
    assert not np.array_equal(
        trained.get_layer("block3_conv2").kernel, began.get_layer("block3_conv2").kernel
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["start_from"] == str(pruned)
    with pytest.raises(SystemExit, match="holds a run with --start-from"):
        fit.main([*flags, "--out", str(tmp_path / "run")])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_run_says_the_precision_and_the_file_the_weights(precision, pruned):
    tf.keras.mixed_precision.set_global_policy(precision)
    model = start.trained_network(str(pruned), like=built())

    assert model.get_layer("block3_conv2").dtype_policy.name == precision
    saved = tf.keras.models.load_model(pruned, compile=False)
    assert all(map(np.array_equal, model.get_weights(), saved.get_weights()))


def test_a_network_whose_attention_was_left_out_is_trained_on(tmp_path):
    images = data.load("digits").train[0][:50]
    model = built()
    kernel = model.get_layer("block1_se").excite.kernel
    kernel.assign(np.abs(kernel.numpy()))  # of ReLU's outputs: its gates are always on
    smaller = prune(model, images, left_out=1.0)
    assert "block1_se" not in {layer.name for layer in smaller.layers}
    smaller.save(tmp_path / "smaller.keras")

    trained_on = start.trained_network(str(tmp_path / "smaller.keras"), like=built())

    assert np.array_equal(trained_on(images), smaller(images))


def test_gates_can_be_frozen_from_there_on(pruned):
    like = built(freeze_gates=True)
    model = start.trained_network(str(pruned), like=like)

    assert not model.get_layer("block2_se").trainable_weights
    assert model.get_layer("block2_conv2").trainable_weights


@pytest.mark.parametrize("name", [item.name for item in fields(Hyperparameters)])
def test_a_network_that_differs_in_any_one_field_is_refused(name, pruned):
    wanted = Architecture.of(built())
    needed = {"activations": "binary"} if name == "float_attention" else {}
    like = models.build(replace(wanted, **{name: OTHER[name]}, **needed))
    name = next(iter(needed), name)  # what comes first is named
    with pytest.raises(UserError, match=f"its {name.replace('_', ' ')} is .*, not "):
        start.trained_network(str(pruned), like=like)


def test_a_network_of_other_layers_is_refused(pruned, tmp_path):
    like = built()
    found = tf.keras.models.load_model(pruned, compile=False)
    flipped = tf.keras.layers.RandomFlip(name="flip")(found.output[:, None, :, None])
    tf.keras.Model(found.input, flipped).save(tmp_path / "model.keras")

    with pytest.raises(UserError, match="it has a "):
        start.trained_network(str(tmp_path / "model.keras"), like=like)


def test_a_run_whose_start_cannot_be_read_leaves_no_folder(tmp_path):
    flags = ["--dataset", "digits", "--width", "4", "--fmb", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="no readable"):
        fit.main([*flags, "--start-from", str(tmp_path / "nowhere.keras")])

    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.keras is no readable \.keras file"):
        start.trained_network(str(tmp_path / "nowhere.keras"), like=built())
