import json

import pytest

from larq_seresnet import models
from training.experiments import pruning
from training.trainer import fit


@pytest.mark.slow
def test_it_prunes_trains_on_and_measures_once(tmp_path, capsys):
    run = tmp_path / "digits"
    network = ["--width", "4", "--blocks", "1", "1", "--attention-scale", "--fmb"]
    flags = ["--dataset", "digits", "--batch-size", "128", "--epochs", "1", "--out", str(run)]
    fit.main([*network, *flags])
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    arguments = ["--run", str(run), "--thresholds", "0", "0.6", "--epochs", "1", *folders]

    pruning.main(arguments)

    found = {
        file.stem: json.loads(file.read_text())
        for file in (tmp_path / "results" / "digits").glob("*.json")
    }
    assert set(found) == {"unpruned", "0", "0.6"}
    control, pruned = found["unpruned"], found["0.6"]
    assert control["removed"] == []
    assert 0 < sum(pruned["removed"]) < sum(pruned["channels"])
    assert pruned["weights"] < control["weights"]
    assert pruned["float32_bytes"] < control["float32_bytes"]
    assert 0 <= pruned["test_error"] <= 100
    assert found["0"]["images_with_changed_gates"] == [0, 0]

    capsys.readouterr()
    pruning.main(arguments)
    assert "epoch 1" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"unpruned\.json is of --epochs 1, not 2"):
        pruning.main([*arguments, "--epochs", "2"])


@pytest.mark.parametrize(
    "gates", [{"gate": "tanh", "fmb": True}, {"gate": "sigmoid", "fmb": False}]
)
def test_a_run_whose_gates_remove_no_channel(gates, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"config": {"dataset": "digits"}}')
    models.SEResNet14Bin(width=2, blocks=(1,), **gates).save(tmp_path / "model.keras")

    with pytest.raises(SystemExit, match="has no 0/1 gates: it was not trained with --fmb"):
        pruning.main(["--run", str(tmp_path), "--results", str(tmp_path / "results")])

    assert not (tmp_path / "results").exists()


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(SystemExit, match="is no finished run: it has no"):
        pruning.main(["--run", str(tmp_path / "nowhere")])


def test_a_damaged_network_is_one_clear_line(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"config": {"dataset": "digits"}}')
    (tmp_path / "model.keras").write_text("no network")

    with pytest.raises(SystemExit, match=r"model\.keras is no readable model") as caught:
        pruning.main(["--run", str(tmp_path)])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--thresholds", "0.1", "2"], "--thresholds must be from 0 to 1"),
        (["--thresholds", "nan"], "--thresholds must be from 0 to 1"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--learning-rate", "0"], "--learning-rate must be positive, not 0.0"),
        (["--seed", "-1"], "--seed must be 0 or more, and less than 2^32, not -1"),
    ],
)
def test_bad_flags(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        pruning.main(flags)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
