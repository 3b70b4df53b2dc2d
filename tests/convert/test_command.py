import json
import sys

import larq as lq
import pytest
import tensorflow as tf

from larq_seresnet import pretrained
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import __main__ as command
from larq_seresnet.convert import graph


@pytest.fixture
def run(network, tmp_path):
    """A finished run's folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    network().save(folder / "model.keras")
    config = {"model": "binary", "width": 8, "fmb": True, "dataset": "cifar10", "seed": 3}
    content = {"config": config, "labels": list("abcdefghij"), "versions": {}}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps({"test_error": 12.34}))
    return folder


def test_run_folder_to_file(run, tmp_path, capfd):
    out = tmp_path / "model.tflite"
    assert command.main([str(run), "--target", "litert", "--out", str(out), "--report"]) == 0
    facts = json.loads(graph.parse(out.read_bytes()).metadata["larq_seresnet"])
    assert facts["labels"] == list("abcdefghij")
    assert facts["test_error"] == 12.34
    assert facts["config"] == Architecture(width=8, fmb=True).summary
    printed = capfd.readouterr()
    assert "packed weights" in printed.out
    assert f"wrote {out}: {out.stat().st_size} bytes" in printed.err
    assert not list(tmp_path.glob(".model*"))


def test_saved_model_to_file_with_json_report(run, tmp_path, capfd):
    out = tmp_path / "model.tflite"
    arguments = [str(run / "model.keras"), "--target", "lce", "--out", str(out)]
    assert command.main([*arguments, "--input", "uint8", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["file"]["total"] == out.stat().st_size
    assert graph.parse(out.read_bytes()).inputs[0].type == graph.TensorType.UINT8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run.rename(run.with_name("gone")), "neither a run folder"),
        (lambda run: (run / "config.json").unlink(), "no config.json"),
        (lambda run: (run / "config.json").write_text("{"), "damaged"),
        (lambda run: (run / "model.keras").unlink(), "not finished"),
        (
            lambda run: (run / "model.keras").write_bytes(b"PK nothing"),
            "no readable model of Keras 2",
        ),
    ],
)
def test_bad_sources_are_one_line_and_leave_no_file(run, tmp_path, capfd, damage, message):
    out = tmp_path / "model.tflite"
    out.write_bytes(b"an older file")
    damage(run)
    assert command.main([str(run), "--target", "lce", "--out", str(out)]) == 1
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1
    assert message in error[0]
    assert out.read_bytes() == b"an older file"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_pretrained_weights_bring_what_is_known_of_them(run, tmp_path):
    known = {"dataset": "digits", "labels": list("0123456789"), "test_error": 1.5, "licence": "CC"}
    weights, out = tmp_path / "weights.npz", tmp_path / "model.tflite"
    pretrained.save(weights, tf.keras.models.load_model(run / "model.keras"), known)

    assert command.main([str(weights), "--target", "litert", "--out", str(out)]) == 0

    facts = json.loads(graph.parse(out.read_bytes()).metadata["larq_seresnet"])
    assert known.items() <= facts.items()
    assert facts["config"]["width"] == 8


def test_folder_that_does_not_exist(run, tmp_path, capfd):
    arguments = [str(run), "--target", "lce", "--out", str(tmp_path / "no" / "model.tflite")]
    assert command.main(arguments) == 1
    assert "there is no folder" in capfd.readouterr().err


def test_as_a_module(python, run, tmp_path):
    ended = python("-m", "larq_seresnet.convert", "--help")
    assert ended.returncode == 0
    assert "SOURCE" in ended.stdout
    ended = python("-m", "larq_seresnet.convert", str(run), "--target", "tpu", "--out", "x")
    assert ended.returncode == 2
    out = tmp_path / "model.tflite"
    ended = python("-m", "larq_seresnet.convert", str(run), "--target", "litert", "--out", str(out))
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) < 8, ended.stderr
    assert out.stat().st_size < 20_000


def test_importing_the_package_loads_no_tensorflow(python):
    program = "import sys, larq_seresnet.convert; sys.exit('tensorflow' in sys.modules)"
    assert python("-c", program).returncode == 0, sys.version


def test_the_report_tells_what_each_kernel_is_stored_as(tmp_path, capfd):
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((12, 12, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, name="plain"),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(32, 3, kernel_quantizer="ste_tern", name="ternary"),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(32, 3, kernel_quantizer="ste_sign", name="signs"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax", name="last"),
        ]
    )
    model.save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), "--target", "litert"]
    arguments += ["--out", str(tmp_path / "model.tflite")]
    assert command.main([*arguments, "--report"]) == 0
    table = capfd.readouterr().out
    assert "32  432         plain (CONV_2D): 27 values in a channel" in table
    assert "2  4,608       ternary (CONV_2D): 3 values in a channel" in table
    assert "1  9,216       signs (CONV_2D)\n" in table
    assert "32  320         last (FULLY_CONNECTED): 32 values in a channel" in table
    assert command.main([*arguments, "--json"]) == 0
    kernels = json.loads(capfd.readouterr().out)["kernels"]
    assert [(kernel["name"], kernel["bits"]) for kernel in kernels] == [
        ("plain", 32),
        ("ternary", 2),
        ("signs", 1),
        ("last", 32),
    ]


@pytest.mark.parametrize("place", ["model.keras", "."])
def test_no_source_and_no_folder_is_written_over(run, capfd, place):
    source = run / "model.keras"
    before = source.read_bytes()
    assert command.main([str(source), "--target", "litert", "--out", str(run / place)]) == 1
    assert "is no new file" in capfd.readouterr().err
    assert source.read_bytes() == before


def test_an_exported_model_has_no_layers(run, tmp_path, capfd):
    tf.keras.models.load_model(run / "model.keras").export(tmp_path / "exported")
    arguments = [str(tmp_path / "exported"), "--target", "litert", "--out", str(tmp_path / "x")]
    assert command.main(arguments) == 1
    assert "use model.save" in capfd.readouterr().err
