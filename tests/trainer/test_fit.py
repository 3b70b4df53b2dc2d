import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from training import UserError
from training.trainer import data, fit
from training.trainer.config import Config
from training.trainer.run_folder import read_rows

QUICK = ["--dataset", "digits", "--width", "4", "--blocks", "1", "1", "--batch-size", "128"]


def run(folder, *arguments):
    fit.main([*QUICK, "--out", str(folder), *arguments])


def log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(rows):
    return [
        {key: row[key] for key in row if key not in ("seconds", "images_per_second")}
        for row in rows
    ]


def weights(folder):
    model = tf.keras.models.load_model(folder / "model.keras")
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def command(folder, *arguments):
    return [sys.executable, "-m", "training.fit", *QUICK, "--out", str(folder), *arguments]


def start(folder, *arguments):
    return subprocess.Popen(
        command(folder, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test suite in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(process, text):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"{text!r} did not come:\n{''.join(seen)}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 4 epochs, FMB for the first 3, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(folder, *FLAGS), cwd=ROOT, check=True, capture_output=True)
    return folder


FLAGS = ["--fmb", "--fmb-epochs", "3", "--epochs", "4"]


def test_a_run_leaves_its_configuration_log_curves_and_weights(finished):
    content = json.loads((finished / "config.json").read_text())
    assert content["config"]["fmb"] is True
    assert content["config"]["precision"] in ("float32", "mixed_bfloat16")
    assert content["data"] == {"train": 1293, "validation": 144, "test": 360}
    assert {"python", "tensorflow", "larq", "larq-seresnet"} <= set(content["versions"])
    rows = log(finished)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(0 <= float(row["test_error"]) <= 100 for row in rows)
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((finished / "results.json").read_text())
    assert results["test_error"] == pytest.approx(float(rows[-1]["test_error"]), abs=2)


def test_the_final_errors_are_those_of_the_saved_weights_in_float32(finished):
    from larq_seresnet.models import to_float32
    from training.trainer import data

    images, labels = data.load("digits").test
    model = to_float32(tf.keras.models.load_model(finished / "model.keras", compile=False))
    error = 100 * np.mean(model.predict(images, verbose=0).argmax(-1) != labels)

    assert json.loads((finished / "results.json").read_text())["test_error"] == pytest.approx(
        error, abs=0.01
    )


@pytest.mark.parametrize(
    "kill",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_run_cut_off_in_mid_epoch_continues_as_the_uninterrupted_one(kill, finished, tmp_path):
    process = start(tmp_path / "run", *FLAGS)
    wait_for(process, "epoch 2/4")
    time.sleep(0.3)
    process.send_signal(kill)
    output, _ = process.communicate(timeout=300)
    assert process.returncode
    if kill != signal.SIGKILL:
        assert "the same command goes on" in output
        assert "Traceback" not in output
        assert (tmp_path / "run" / "curves.png").exists()
    assert not (tmp_path / "run" / "results.json").exists()

    resumed = subprocess.run(
        command(tmp_path / "run", *FLAGS), cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "resuming after epoch" in resumed.stdout
    assert without_times(log(tmp_path / "run")) == without_times(log(finished))
    assert same(weights(tmp_path / "run"), weights(finished))


def test_ctrl_c_while_tensorflow_is_imported_is_one_line(tmp_path):
    process = start(tmp_path / "run")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert process.returncode
    assert output == "stopped\n"
    assert not (tmp_path / "run").exists()


def test_a_row_without_its_checkpoint_is_dropped(finished, tmp_path, capsys):
    run(tmp_path, "--epochs", "1", "--schedule", "constant")
    row = (tmp_path / "log.csv").read_text().splitlines()[-1]
    with (tmp_path / "log.csv").open("a") as file:
        file.write(f"{row}\n")

    run(tmp_path, "--epochs", "2", "--schedule", "constant")

    assert [row["epoch"] for row in log(tmp_path)] == ["1", "2"]
    assert [row["epoch"] for row in read_rows(tmp_path / "results.csv")] == [1, 2]


def test_a_finished_run_is_not_trained_again(finished, capsys):
    before = (finished / "model.keras").read_bytes()

    run(finished, *FLAGS)

    assert "done: top-1 error" in capsys.readouterr().out
    assert (finished / "model.keras").read_bytes() == before


def test_another_configuration_in_the_same_folder(finished):
    with pytest.raises(SystemExit, match=r"holds a run with --seed 0, not 1"):
        run(finished, *FLAGS, "--seed", "1")
    with pytest.raises(SystemExit, match=r"holds a run with --epochs 4, not 5"):
        run(finished, "--fmb", "--fmb-epochs", "3", "--epochs", "5")


@pytest.mark.parametrize("name", ["model.keras", "log.csv", "config.json"])
def test_a_file_cut_in_half(name, finished, tmp_path):
    for file in finished.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(SystemExit, match=rf"{name.replace('.', '[.]')}.*(damaged|epochs)"):
        run(tmp_path, *FLAGS)

    assert (tmp_path / name).read_bytes() == whole[: len(whole) // 2]


def test_a_further_log_without_its_header(finished, tmp_path):
    for file in finished.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "gates.csv").write_text("1\n2\n")

    with pytest.raises(SystemExit, match=r"gates\.csv is damaged"):
        run(tmp_path, *FLAGS)


def test_one_folder_holds_one_training_at_a_time(finished, tmp_path):
    process = start(tmp_path / "run", *FLAGS)
    wait_for(process, "epoch 1/4")
    try:
        with pytest.raises(SystemExit, match="another process is training in"):
            run(tmp_path / "run", *FLAGS)
    finally:
        process.kill()
        process.communicate()


def test_out_that_is_no_folder_of_a_run(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit, match="is no folder to write to"):
        run(tmp_path / "file")
    with pytest.raises(SystemExit, match="holds files that are no run"):
        run(tmp_path)
    with pytest.raises(SystemExit, match="is no folder to write to"):
        run("/proc/run")
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["--gate", "relu"], "argument --gate: invalid choice"),
        (["--epochs", "many"], "argument --epochs: invalid int value"),
        (["--epochs", "-3"], "--epochs must be at least 1, not -3"),
        (["--width", "0"], "width must be a positive integer, not 0"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--reduction", "3"], "reduction 3 does not divide the width 4"),
        (["--learning-rate", "0"], "--learning-rate must be positive"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--seed", "4294967296"], "--seed must be 0 or more, and less than 2^32"),
        (["--fmb-epochs", "3"], "--fmb-epochs and --fmb-start need --fmb"),
        (["--fmb-start", "3"], "--fmb-epochs and --fmb-start need --fmb"),
        (["--fmb", "--fmb-start", "-1"], "--fmb-start must be 0 or more"),
        (["--fmb", "--fmb-start", "9", "--epochs", "9"], "--fmb-start must be less than --epochs"),
        (["--fmb", "--fmb-start", "1", "--fmb-epochs", "3"], "exclude each other"),
        (["--fmb", "--gate", "none"], "fmb needs a gate"),
        (["--freeze-gates", "--gate", "none"], "--freeze-gates needs a gate"),
        (["--freeze-gates", "--activations", "binary"], "needs --activations float"),
        (["--attention-scale", "--gate", "none"], "attention_scale needs a gate"),
        (["--open-gates"], "--open-gates needs --fmb"),
        (["--open-gates", "--fmb", "--model", "float"], "--open-gates needs 1-bit weights"),
        (["--hold-gates", "2", "--fmb"], "--hold-gates needs --open-gates"),
        (
            ["--hold-gates", "2", "--fmb", "--open-gates", "--epochs", "2"],
            "--hold-gates must be less than --epochs 2",
        ),
        (
            ["--fmb", "--open-gates", "--hold-gates=2", "--start-from=x", "--freeze-body=3"],
            "--freeze-body and --hold-gates exclude each other",
        ),
        (["--distinct-epochs", "2"], "--distinct-epochs needs --distill"),
        (["--label-smoothing", "1.5"], "--label-smoothing must be from 0 to 1, not 1.5"),
        (["--warmup", "1"], "--warmup must be at least 0 and less than 1"),
        (["--weight-decay", "-1"], "--weight-decay must be from 0 to 1"),
        (["--cutout", "-1"], "--cutout must be 0 or more"),
        (["--distill-weight", "0.5"], "need --distill"),
        (["--dataset", ""], "--dataset is empty"),
        (["--recipe", "worst"], "argument --recipe: invalid choice"),
        (["--model", "float", "--activations", "binary"], "binary activations need 1-bit weights"),
    ],
)
def test_bad_flags(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "run", *arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_folder_may_be_written_in_many_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("photos", "photos/", "./photos", "photos//"):
        config = Config(dataset=name, start_from=name)
        assert (config.dataset, config.start_from) == ("photos/", "photos")


def test_a_full_disk_is_one_line_and_leaves_no_draft(tmp_path, monkeypatch):
    def write(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(SystemExit, match=r"config\.json cannot be written: No space left"):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_goes_wrong_in_reading_is_said_as_it_is():
    def read(number):
        raise UserError("a picture cannot be read any more")

    numbers = tf.data.Dataset.range(3).map(lambda x: tf.numpy_function(read, [x], tf.int64))
    with pytest.raises(UserError, match=r"^a picture cannot be read any more$"), data.in_one_line():
        list(numbers)


def test_a_batch_larger_than_the_data(tmp_path):
    with pytest.raises(SystemExit, match="--batch-size 2000 is more than the 1293 training images"):
        run(tmp_path, "--batch-size", "2000")


def test_every_flag_has_help(capsys):
    with pytest.raises(SystemExit):
        fit.main(["--help"])

    printed = capsys.readouterr().out
    for item in fields(Config):
        assert f"--{item.name.replace('_', '-')}" in printed
        assert item.metadata["help"]


def test_runs_of_different_flags_have_different_default_folders():
    folders = {
        Config(fmb=fmb, seed=seed, gate=gate).folder
        for fmb in (False, True)
        for seed in (0, 1)
        for gate in ("sigmoid", "tanh")
    }

    assert len(folders) == 8
    assert Config(fmb=True).folder == Config(fmb=True, tensorboard=True).folder


def test_tensorboard_on_request(tmp_path):
    run(tmp_path, "--epochs", "1", "--tensorboard")

    assert list(tmp_path.glob("tensorboard/train/events*"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--model", "float"], ["--activations", "binary", "--fmb"]])
def test_the_other_networks_train(flags, tmp_path):
    run(
        tmp_path,
        *flags,
        "--width",
        "8",
        "--blocks",
        "2",
        "2",
        "2",
        "--epochs",
        "15",
        "--batch-size",
        "32",
    )

    assert float(log(tmp_path)[-1]["test_error"]) < 15


@pytest.mark.slow
def test_a_run_on_cifar10_learns(tfds_dir, tmp_path):
    arguments = ["--fmb", "--epochs", "1", "--width", "8", "--out", str(tmp_path)]
    fit.main([*arguments, "--data-dir", str(tfds_dir)])

    assert json.loads((tmp_path / "config.json").read_text())["data"]["train"] == 45_000
    assert float(log(tmp_path)[-1]["test_error"]) < 80
