import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.models import SEResNet14Bin


@pytest.fixture
def trained(images):
    """A network whose FMB was on for the first of two epochs, and the gates' values by epoch."""
    model = SEResNet14Bin(width=4, blocks=(1, 1))
    model.compile("adam", "sparse_categorical_crossentropy")
    values = []

    def record(epoch, logs):
        values.append(gate_values(model, images))

    recorder = tf.keras.callbacks.LambdaCallback(on_epoch_end=record)
    model.fit(images, np.arange(16) % 10, epochs=2, verbose=0, callbacks=[FMBSchedule(1), recorder])
    return model, values


def gate_values(model, images):
    attention = model.get_layer("block1_se")
    features = tf.keras.Model(model.input, model.get_layer("block1_bn2").output)
    return np.unique(attention.gates(features(images)))


def test_fmb_is_on_for_the_first_epochs_only(trained):
    _, (first, second) = trained

    assert set(first.tolist()) <= {0.0, 1.0}
    assert not set(second.tolist()) <= {0.0, 1.0}


def test_fmb_can_be_on_for_the_last_epochs_only(images):
    model = SEResNet14Bin(width=4)
    schedule = FMBSchedule(start=1)
    schedule.set_model(model)
    for epoch, binarized in ((0, False), (1, True), (2, True)):
        schedule.on_epoch_begin(epoch)
        assert (set(gate_values(model, images).tolist()) <= {0.0, 1.0}) == binarized


def test_training_uses_the_soft_gates_after_the_first_epochs(trained, images):
    model, _ = trained

    assert "GreaterEqual" not in operations(model.predict_function, model, images)


def test_a_model_saved_afterwards_has_soft_gates(trained, images, tmp_path):
    model, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")

    assert not set(gate_values(loaded, images).tolist()) <= {0.0, 1.0}
    assert not loaded.get_layer("block1_se").get_config()["fmb"]
    assert np.array_equal(loaded(images), model(images))


def test_an_exported_model_has_thresholds_just_where_fmb_is_on(trained, tmp_path):
    def thresholds(model):
        model.export(tmp_path / model.name)
        serve = tf.saved_model.load(tmp_path / model.name).signatures["serving_default"]
        graph = serve.graph.as_graph_def()
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        return sum(node.op == "GreaterEqual" and "fmb" in node.name for node in nodes)

    assert thresholds(trained[0]) == 0
    assert thresholds(SEResNet14Bin(width=4)) == 6


@pytest.mark.parametrize("gate", [None, "sigmoid"])
def test_the_schedule_needs_something_to_switch(gate):
    model = SEResNet14Bin(width=4, gate=gate, fmb=False)
    with pytest.raises(ValueError, match="no FMB to switch"):
        FMBSchedule(1).set_model(model)


def test_a_model_that_was_saved_with_soft_gates_can_be_switched_on(trained, tmp_path):
    trained[0].save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    schedule = FMBSchedule(start=1)
    schedule.set_model(loaded)
    schedule.on_epoch_begin(1)

    assert loaded.get_layer("block1_se").fmb.enabled


def test_epochs_are_not_negative():
    with pytest.raises(ValueError, match="must not be negative"):
        FMBSchedule(-1)
    with pytest.raises(ValueError, match="start must not be negative"):
        FMBSchedule(start=-1)


def operations(function, model, images):
    model.predict(images, verbose=0)
    data = tf.data.Dataset.from_tensors(images)
    graph = model.make_predict_function().get_concrete_function(iter(data)).graph
    return {node.op for f in graph.as_graph_def().library.function for node in f.node_def}
