import csv
import json
import re

import pytest

from tests.experiments.test_report import curve, write_run
from training import UserError
from training.experiments.report import __main__ as report
from training.experiments.report import gates, position, pruning
from training.experiments.report.page import Page


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
        columns = "dataset,gate,fmb,seed,epochs,fmb_start,layer,images,test_error,pointing,energy"
        file.write(f"{columns},chance,centre_pointing\n")
        writer = csv.writer(file)
        for gate, fmb, energy in (("sigmoid", 0, 80), ("sigmoid", 1, 60), ("tanh", 0, 70)):
            for seed in range(3):
                run = ("pasted_digits", gate, fmb, seed, 40, 20 * fmb, "block6_relu2", 360, 5)
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
    assert "; 40 epochs, with FMB the first 20 of them with soft gates." in text
    assert "| a (no FMB) | b (FMB) | 3.50 | 3.10 | 7.25 |" in text
    for name in ("gates_trained", "gates_by_epoch", "error_against_bytes"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("threshold", "shown"), [(1e-6, "never"), (1 / 45000, "never"), (0.0005, "0.05 %")]
)
def test_never_is_on_no_image(threshold, shown, tmp_path):
    write_pruning(tmp_path)
    file = tmp_path / "pruning" / "cifar10_fmb" / "0.1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "threshold": threshold}))
    page = Page()

    pruning.add(page, tmp_path, tmp_path)

    assert f"| {shown} | 7 of 32 |" in page.blocks[0]


def test_there_is_a_report_before_the_first_run(tmp_path, monkeypatch):
    write_pruning(tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "paper")

    report.main(["--out", str(tmp_path / "out")])

    text = (tmp_path / "out" / "report.md").read_text()
    assert "No run of the papers' arms has been made yet" in text
    assert "error against bytes" in text


def scores(results):
    """The cells of the table of `write_position`, by gate and score."""
    page = Page()
    position.add(page, results, results)
    cells = [re.split(r" ?\| ?", line)[1:-1] for line in page.blocks[0].splitlines()]
    return {tuple(row[:2]): row[2:] for row in cells if len(row) == 6}


def test_one_gate_alone_has_no_verdict(tmp_path):
    write_position(tmp_path)

    assert scores(tmp_path)["tanh", "energy in the box (%)"][1:] == ["-", "-", "-"]


def test_networks_that_did_not_learn_have_no_verdict(tmp_path):
    write_position(tmp_path)
    file = tmp_path / "position" / "pasted_digits.csv"
    file.write_text(
        file.read_text().replace(
            "sigmoid,1,2,40,20,block6_relu2,360,5,", "sigmoid,1,2,40,20,x,360,90,"
        )
    )

    found = scores(tmp_path)

    assert found["sigmoid", "energy in the box (%)"][-1] == "no verdict: did not learn"
    assert found["sigmoid", "test error (%)"][-1].startswith("no effect larger than ")


def test_nothing_was_measured(tmp_path):
    page = Page()

    gates.add(page, tmp_path)
    pruning.add(page, tmp_path, tmp_path)
    position.add(page, tmp_path, tmp_path)

    assert (page.blocks, page.pictures) == ([], {})


def test_the_heat_maps_are_shown_where_they_are(tmp_path):
    write_position(tmp_path)
    (tmp_path / "position" / "pasted_digits.png").write_bytes(b"a picture")
    page = Page()

    position.add(page, tmp_path, tmp_path / "report")

    assert "(../position/pasted_digits.png)" in page.blocks[1]


@pytest.mark.parametrize(
    ("name", "section"),
    [("gates/trained.json", gates.add), ("pruning/cifar10_fmb/0.1.json", pruning.add)],
)
def test_a_damaged_result_is_one_clear_line(name, section, tmp_path):
    write_gates(tmp_path)
    write_pruning(tmp_path)
    (tmp_path / name).write_text("{")

    with pytest.raises(UserError, match=rf"{name} cannot be read \(.+\): make it again"):
        section(Page(), tmp_path, *([tmp_path] if section is pruning.add else []))


def test_a_table_with_a_hole_is_damaged(tmp_path):
    write_position(tmp_path)
    file = tmp_path / "position" / "pasted_digits.csv"
    file.write_text(file.read_text().replace(",19.1,", ",,", 1))

    with pytest.raises(
        UserError, match=r"pasted_digits\.csv cannot be read \(a value is missing\)"
    ):
        position.add(Page(), tmp_path, tmp_path)
