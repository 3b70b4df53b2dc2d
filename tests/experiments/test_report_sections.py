import csv
import json

import numpy as np
import pytest

from tests.experiments.test_report import curve, write_run
from training import UserError
from training.experiments.report import __main__ as report
from training.experiments.report import gate_section, position_section, pruning_section


def write_gates(results):
    modules = [
        {
            "module": f"block{i}_se",
            "fmb": True,
            "channels": 4,
            "pruned": 1,
            "always_on": 1,
            "always_off": 1,
            "dependent": 1,
            "on": [1.0, 0.0, 0.25],
        }
        for i in range(1, 7)
    ]
    content = {
        "images": {"dataset": "cifar10", "split": "train", "count": 45000},
        "networks": {"cifar10_fmb": modules},
    }
    (results / "gates").mkdir(parents=True)
    (results / "gates" / "trained.json").write_text(json.dumps(content))


def write_pruning(results):
    folder = results / "pruning" / "cifar10_fmb"
    folder.mkdir(parents=True)
    for label, threshold, removed, size in (
        ("unpruned", None, [], 37000),
        ("0", 0.0, [0, 0], None),
        ("0.1", 0.1, [3, 4], 30000),
    ):
        row = {
            "threshold": threshold,
            "epochs": 2,
            "training_images": 45000,
            "channels": [16, 16],
            "never_on": [1, 2],
            "removed": removed,
            "images_with_changed_gates": [450, 900] if removed else [],
        }
        if size:
            row |= {
                "weights": 5 * size,
                "validation_error_before": 28.5,
                "test_error_before": 29.0,
                "validation_error": 27.5,
                "test_error": 28.0,
                "lce_bytes": size - 100,
                "litert_bytes": size,
                "float32_bytes": 20 * size,
            }
        (folder / f"{label}.json").write_text(json.dumps(row))


def write_position(results):
    (results / "position").mkdir(parents=True)
    with (results / "position" / "pasted_digits.csv").open("w", newline="") as file:
        file.write(
            "dataset,gate,fmb,seed,layer,images,test_error,pointing,energy,chance,centre_pointing\n"
        )
        writer = csv.writer(file)
        for gate, fmb, energy in (("sigmoid", 0, 80), ("sigmoid", 1, 60), ("tanh", 0, 70)):
            for seed in range(3):
                run = ("pasted_digits", gate, fmb, seed, "block6_relu2", 360, 5)
                writer.writerow((*run, 90 + seed, energy + seed, 19.1, 70))
    (results / "position" / "shift_cifar10.csv").write_text(
        "dataset,layer,first,second,images,shift,median,shuffled,first_fmb,second_fmb\n"
        "cifar10,block6_relu2,a,b,2000,3.5,3.1,7.25,0,1\n"
    )


def test_the_sections_are_part_of_the_report(tmp_path):
    results = tmp_path / "results"
    folder = write_run(results / "paper", "sigmoid_fmb", 0, curve(30))
    for write in (write_gates, write_pruning, write_position):
        write(results)

    report.main([str(folder), "--out", str(tmp_path / "out")])

    text = (tmp_path / "out" / "report.md").read_text()
    assert "| cifar10_fmb | yes | block1_se | 3 | 1 | 1 | 1 | 41.7 |" in text
    assert "| 0, without loss | 0 of 32 | 2.0 | - |" in text
    assert "| 10 % | 7 of 32 | 2.0 | 28.50, 29.00 | 27.50, 28.00 | 150,000 |" in text
    assert "3 of 32 channels are off on every image" in text
    assert "-20.00 [" in text
    assert "lowers it" in text
    assert "| a (no FMB) | b (FMB) | 3.50 | 3.10 | 7.25 |" in text
    for name in ("gates_trained", "gates_by_epoch", "error_against_bytes"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_there_is_a_report_before_the_first_run(tmp_path, monkeypatch):
    write_pruning(tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "paper")

    report.main(["--out", str(tmp_path / "out")])

    text = (tmp_path / "out" / "report.md").read_text()
    assert "No run of the papers' arms has been made yet" in text
    assert "error against bytes" in text


def test_one_gate_alone_has_no_verdict(tmp_path):
    write_position(tmp_path)

    scores, _ = position_section.tables(tmp_path)

    tanh = next(row for row in scores.rows if row[:2] == ["tanh", "energy in the box (%)"])
    assert tanh[3:] == ["-", "-", "-"]


def test_networks_that_did_not_learn_have_no_verdict(tmp_path):
    write_position(tmp_path)
    file = tmp_path / "position" / "pasted_digits.csv"
    file.write_text(
        file.read_text().replace("sigmoid,1,2,block6_relu2,360,5,", "sigmoid,1,2,x,360,90,")
    )

    scores, _ = position_section.tables(tmp_path)

    energy = next(row for row in scores.rows if row[:2] == ["sigmoid", "energy in the box (%)"])
    assert energy[-1] == "no verdict: did not learn"


def test_nothing_was_measured(tmp_path):
    for section in (gate_section, pruning_section, position_section):
        assert section.tables(tmp_path) == []
    assert gate_section.figures(tmp_path, []) == []
    assert pruning_section.figures(tmp_path, tmp_path) == []
    assert position_section.figures(tmp_path) == []


def test_the_heat_maps_picture_is_shown_as_it_is(tmp_path):
    from matplotlib.image import imread, imsave

    (tmp_path / "position").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (120, 240, 3), dtype=np.uint8)
    imsave(tmp_path / "position" / "pasted_digits.png", pixels)

    (figure,) = position_section.figures(tmp_path)

    figure.figure.savefig(tmp_path / "again.png", dpi=120)
    assert imread(tmp_path / "again.png").shape[:2] == (120, 240)


def test_a_damaged_result(tmp_path):
    write_gates(tmp_path)
    (tmp_path / "gates" / "trained.json").write_text("{")

    with pytest.raises(UserError, match=r"trained\.json cannot be read"):
        gate_section.tables(tmp_path)
