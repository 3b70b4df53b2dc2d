import shutil

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import attention
from larq_seresnet import gates as activations
from larq_seresnet.models import SEResNet14Bin
from training import UserError, flags
from training.trainer import data, fit, gates
from training.trainer.config import Config
from training.trainer.run_folder import RunFolder, read_rows

QUICK = ["--dataset", "digits", "--width", "4", "--blocks", "2", "1"]
QUICK += ["--batch-size", "256", "--schedule", "constant"]


def run(folder, *arguments):
    fit.fit(flags.parse(Config, "fit", "", [*QUICK, "--out", str(folder), *arguments]))


def histogram(row):
    return [row[f"bin_{i:02d}"] for i in range(gates.BINS)]


@pytest.fixture(scope="module")
def switched(tmp_path_factory):
    """A run of two epochs with FMB for the first."""
    folder = tmp_path_factory.mktemp("runs") / "switched"
    run(folder, "--fmb", "--fmb-epochs", "1", "--epochs", "2")
    return folder


def test_a_run_records_every_module_after_every_epoch(switched):
    rows = read_rows(switched / "gates.csv")

    assert [(row["epoch"], row["module"]) for row in rows] == [
        (epoch, module) for epoch in (1, 2) for module in range(1, 4)
    ]
    assert [row["channels"] for row in rows[:3]] == [4, 4, 8]
    assert [row["fmb"] for row in rows] == [1] * 3 + [0] * 3
    for row in rows:
        assert sum(histogram(row)) == pytest.approx(1, abs=1e-5)
        assert sum(histogram(row)[gates.BINS // 2 :]) == pytest.approx(row["open"], abs=1e-5)
        assert row["always_open"] <= row["open"] <= row["ever_open"]


def test_the_statistics_are_of_the_gates_before_fmb(switched):
    model = tf.keras.models.load_model(switched / "model.keras", compile=False)
    images = data.load("digits").validation[0][: gates.IMAGES]
    last = model.get_layer("block3_se")
    features = tf.keras.Model(model.input, last.input)(images)
    weights = tf.sigmoid(last.preactivation(features)).numpy()

    row = read_rows(switched / "gates.csv")[-1]
    assert row["open"] == pytest.approx(np.mean(weights >= 0.5), abs=1e-5)
    assert row["bin_00"] == pytest.approx(np.mean(weights < 0.05), abs=1e-5)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run with frozen gates, taken from 1 epoch to 2, and its records and weights of then."""
    folder = tmp_path_factory.mktemp("runs") / "resumed"
    run(folder, "--freeze-gates", "--fmb", "--epochs", "1")
    before = read_rows(folder / "gates.csv"), weights(folder)
    with (folder / "gates.csv").open("a") as file:  # of an epoch whose checkpoint was not written
        file.write((folder / "gates.csv").read_text().splitlines()[-1].replace("1,3", "2,3", 1))
    run(folder, "--freeze-gates", "--fmb", "--epochs", "2")
    return folder, *before


def weights(folder):
    model = tf.keras.models.load_model(folder / "model.keras")
    modules = attention.modules(model)
    drawn = [weight for module in modules for weight in module.get_weights()]
    return drawn, model.get_layer("block3_conv2").get_weights()[0]


def test_a_resumed_run_goes_on_with_its_gates(resumed):
    folder, first, _ = resumed
    rows = read_rows(folder / "gates.csv")

    assert rows[:3] == first
    assert [(row["epoch"], row["module"]) for row in rows[3:]] == [(2, m) for m in range(1, 4)]


def test_frozen_gates_stay_as_they_were_drawn_also_after_a_resumption(resumed):
    folder, _, (gates, kernel) = resumed
    later_gates, later_kernel = weights(folder)

    assert len(gates) == 6
    assert all(map(np.array_equal, gates, later_gates))
    assert not np.array_equal(kernel, later_kernel)


@pytest.mark.parametrize("more", [[], ["--activations", "binary", "--float-attention"]])
def test_gates_are_held_open_at_first(more, tmp_path):
    arguments = [
        *more,
        "--fmb",
        "--open-gates",
        "--learning-rate",
        "0.05",
        "--out",
        str(tmp_path / "run"),
    ]
    drawn = []

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            names = {weight.name: weight.numpy() for weight in self.model.weights}
            drawn.append({name: x for name, x in names.items() if "_se/" in name})

    flags_of_run = [*QUICK, *arguments, "--hold-gates", "2", "--epochs", "3"]
    fit.fit(flags.parse(Config, "fit", "", flags_of_run), callbacks=[Watch()])

    assert all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not all(np.array_equal(drawn[1][name], drawn[2][name]) for name in drawn[0])
    rows = read_rows(tmp_path / "run" / "gates.csv")
    assert all(row["always_open"] == 1 for row in rows if row["epoch"] < 3)
    saved = tf.keras.models.load_model(tmp_path / "run" / "model.keras")
    assert all(layer.trainable for layer in saved.layers)


def test_a_longer_run_has_no_results_until_it_is_finished(resumed, tmp_path, monkeypatch):
    folder, _, _ = resumed
    shutil.copytree(folder, tmp_path / "run")
    assert (tmp_path / "run" / "results.json").exists()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gates.Recorder, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", "--freeze-gates", "--fmb", "--epochs", "3")

    assert not (tmp_path / "run" / "results.json").exists()


def test_a_network_without_attention_has_no_gates(tmp_path):
    run(tmp_path / "run", "--gate", "none", "--epochs", "1")

    assert not (tmp_path / "run" / "gates.csv").exists()


def test_a_run_of_before_a_flag_existed_has_its_default(tmp_path):
    config = Config(schedule="constant").decisive()
    with RunFolder(tmp_path, config) as folder:
        old = {key: value for key, value in config.items() if key != "freeze_gates"}
        folder.save_json("config.json", {"config": old})

    with RunFolder(tmp_path, config):
        pass
    with pytest.raises(UserError, match="holds a run with --freeze-gates False, not True"):
        RunFolder(tmp_path, {**config, "freeze_gates": True})


@pytest.mark.parametrize("gate", ["sigmoid", "tanh", "hard_tanh"])
def test_the_threshold_belongs_to_the_upper_half(gate):
    kind = activations.get(gate)
    below = np.nextafter(np.float32(kind.threshold), np.float32(-9))
    weights = np.array([[kind.threshold, below], [kind.high, below]], np.float32)

    row = gates.statistics(weights, kind)

    assert row["open"] == 0.5
    assert histogram(row)[9:11] == [0.5, 0.25]
    assert histogram(row)[-1] == 0.25
    assert (row["ever_open"], row["always_open"]) == (0.5, 0.5)


def test_frozen_gates_pass_a_gradient_to_the_features_but_cut_ones_do_not(images):
    def gradient(method):
        module = SEResNet14Bin(width=4, gradient=method).get_layer("block1_se")
        module.trainable = False
        x = tf.random.stateless_normal((16, 8, 8, 4), [0, 1])
        with tf.GradientTape() as tape:
            tape.watch(x)
            weights = module.gates(x)
        return tape.gradient(weights, x)

    assert np.any(gradient("ste"))
    assert gradient("cut") is None
