import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from tests.conftest import ROOT
from tests.experiments import fake_training
from training import UserError
from training.experiments import sweep
from training.experiments.jobs import Jobs
from training.trainer.run_folder import read_rows

SETTINGS = {"dataset": "digits", "widths": (4,), "epochs": 2, "gates": ("sigmoid",)}
SMALL = ["--dataset", "digits", "--widths", "4", "--epochs", "2", "--gates", "sigmoid"]


@pytest.fixture
def trained(monkeypatch):
    """Stands for the training: the error is lowest at 0.002, with FMB. Collects the folders."""
    calls = []

    def error(config):
        return 40 + abs(config.learning_rate - 0.002) * 1000 - 5 * config.fmb

    def train(jobs, config):
        calls.append(config.folder.name)
        return fake_training.train(config, error)

    monkeypatch.setattr(Jobs, "train", train)
    return calls


def table(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def run(folder, *arguments):
    sweep.main([*SMALL, "--out", str(folder), *arguments])


def test_every_group_gets_every_learning_rate(trained, tmp_path, capsys):
    run(tmp_path, "--learning-rates", "0.001", "0.002", "0.004")

    rows = table(tmp_path)
    assert len(rows) == len(trained) == 9
    for group in ("without", "ste", "cut"):
        rates = {row["learning_rate"] for row in rows if row["group"] == group}
        assert rates == {"0.001", "0.002", "0.004"}
    assert float(rows[0]["error"]) == 35
    printed = capsys.readouterr().out
    assert printed.count(": error ") == 9
    assert "best learning rate of group without: 0.002" in printed
    assert "| **35.00** |" in (tmp_path / "sweep.md").read_text()
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_reduction_and_width_on_request(trained, tmp_path):
    run(tmp_path, "--reductions", "1", "2", "--widths", "4", "8", "--groups", "ste")

    settings = {(row["reduction"], row["width"]) for row in table(tmp_path)}
    assert settings == {("1", "4"), ("1", "8"), ("2", "4"), ("2", "8")}


def test_a_sweep_that_was_cut_off_goes_on(trained, tmp_path, monkeypatch):
    whole = Jobs.train

    def interrupted(jobs, config):
        if len(trained) == 3:
            fake_training.train(config, epochs=1)
            raise KeyboardInterrupt
        return whole(jobs, config)

    monkeypatch.setattr(Jobs, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(sweep.SweepConfig(**SETTINGS, groups=("without", "ste"), out=tmp_path))
    first = list(trained)
    monkeypatch.setattr(Jobs, "train", whole)
    trained.clear()

    run(tmp_path, "--groups", "without", "ste")

    assert len(first) == 3
    assert not set(first) & set(trained)
    assert len(table(tmp_path)) == 12


def test_keras_tuner_state_cut_in_half_does_no_harm(trained, tmp_path):
    run(tmp_path, "--groups", "ste")
    for file in (tmp_path / "keras_tuner").rglob("*.json"):
        file.write_text(file.read_text()[:20])
    trained.clear()

    run(tmp_path, "--groups", "ste")

    assert trained == []


def test_a_damaged_log_ends_the_sweep_with_a_line_and_without_it_the_sweep_goes_on(
    trained, tmp_path
):
    run(tmp_path, "--groups", "ste")
    shutil.rmtree(tmp_path / "keras_tuner")
    log = next((tmp_path / "trials").glob("*/log.csv"))
    log.write_text("epoch,validation_error\n1\n")

    with pytest.raises(SystemExit, match=r"error: .*log\.csv is damaged") as caught:
        run(tmp_path, "--groups", "ste")

    assert "\n" not in str(caught.value)
    shutil.rmtree(log.parent)
    trained.clear()
    run(tmp_path, "--groups", "ste")
    assert trained == [log.parent.name]
    assert len(table(tmp_path)) == 6


def test_a_value_that_is_named_twice_counts_once(trained, tmp_path):
    run(tmp_path, "--groups", "ste", "--learning-rates", "0.001", "0.002", "0.001")

    assert {row["learning_rate"] for row in table(tmp_path)} == {"0.001", "0.002"}
    assert len(trained) == 2


def test_a_variable_of_keras_tuner_that_is_missing(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    monkeypatch.delenv("KERASTUNER_ORACLE_PORT", raising=False)

    with pytest.raises(SystemExit, match="KERASTUNER_ORACLE_IP needs KERASTUNER_ORACLE_PORT"):
        run(tmp_path)


def test_the_error_is_the_mean_of_the_later_half(tmp_path):
    rows = ["1,90", "2,80", "3,50", "4,30"]
    (tmp_path / "log.csv").write_text("\n".join(["epoch,validation_error", *rows]) + "\n")

    assert sweep.late_error(tmp_path) == 40


def test_another_sweep_in_the_same_folder(trained, tmp_path):
    run(tmp_path, "--groups", "ste")

    with pytest.raises(SystemExit, match=r"holds a sweep with --groups \['ste'\], not \['cut'\]"):
        run(tmp_path, "--groups", "cut")


def test_what_concerns_every_trial_ends_the_sweep(tmp_path, monkeypatch):
    def fail(jobs, config):
        raise UserError("data set digits is missing")

    monkeypatch.setattr(Jobs, "train", fail)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path)

    assert str(caught.value) == "training.sweep: error: data set digits is missing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gates", "relu"], "invalid choice: 'relu'"),
        (["--learning-rates", "0.1", "-1"], "--learning-rate must be positive"),
        (["--reductions", "3"], "reduction 3 does not divide the width 4"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--groups"], "expected at least one argument"),
    ],
)
def test_bad_flags(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "sweep", *arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "sweep").exists()


def test_keras_tuner_takes_models_of_keras_2(tmp_path):
    import tf_keras

    from training.experiments.keras_tuner import kt

    def build(hyperparameters):
        units = hyperparameters.Choice("units", [1, 2])
        layers = [tf_keras.layers.Dense(units, input_shape=(1,)), tf_keras.layers.Dense(1)]
        model = tf_keras.Sequential(layers)
        model.compile(loss="mse")
        return model

    tuner = kt.GridSearch(build, objective="loss", directory=str(tmp_path))
    tuner.search([[1.0]], [[1.0]], epochs=1, verbose=0)

    assert isinstance(tuner.get_best_models()[0], tf_keras.Model)
    assert len(tuner.oracle.trials) == 2


@pytest.mark.parametrize("search", ["random", "bayesian"])
def test_rates_are_sampled_between_the_lowest_and_the_highest(search, trained, tmp_path):
    run(tmp_path, "--groups", "ste", "--search", search, "--trials", "5")

    rates = {float(row["learning_rate"]) for row in table(tmp_path)}
    assert len(trained) == len(rates) == 5
    assert min(rates) >= 1e-3
    assert max(rates) <= 5e-2
    trained.clear()
    run(tmp_path, "--groups", "ste", "--search", search, "--trials", "5")
    assert trained == []


def test_hyperband_trains_the_best_on(trained, tmp_path):
    run(tmp_path, "--groups", "ste", "--search", "hyperband", "--epochs", "9")

    epochs = [len(read_rows(log)) for log in (tmp_path / "trials").glob("*/log.csv")]
    assert max(epochs) == 9
    assert min(epochs) < 9
    assert len(set(trained)) < len(trained), "no run was trained on"


def test_trials_run_side_by_side(trained, tmp_path, monkeypatch):
    together = threading.Barrier(2, timeout=20)
    train = Jobs.train

    def train_together(jobs, config):
        together.wait()
        return train(jobs, config)

    monkeypatch.setattr("training.trainer.hardware.cores", lambda: [0, 1])
    monkeypatch.setattr(Jobs, "train", train_together)
    run(tmp_path, "--groups", "ste", "--jobs", "2")

    assert len(table(tmp_path)) == 6


@pytest.mark.slow
def test_two_workers_share_a_sweep(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [*SMALL, "--groups", "without", "ste", "--learning-rates", "0.002", "0.01"]

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-m", "training.sweep", *flags, "--out", str(tmp_path)],
            cwd=ROOT,
            env={
                **os.environ,
                "KERASTUNER_TUNER_ID": name,
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    processes = [start(name) for name in ("chief", "worker0", "worker1")]
    outputs = [process.communicate(timeout=280)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len(table(tmp_path)) == 4
    shares = [output.count(": error ") for output in outputs]
    assert shares[0] == 0
    assert shares[1] >= 1
    assert shares[2] >= 1
    assert sum(shares) == 4
    assert all(
        json.loads((trial / "results.json").read_text())
        for trial in (tmp_path / "trials").iterdir()
    )
