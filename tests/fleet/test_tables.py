"""Logs of a GPU, as tables, and what the report reads of them."""

import json
import math

import pandas as pd
import pytest

from training import UserError
from training.experiments.arms import ARMS
from training.experiments.report import __main__ as report
from training.experiments.report import claims, figures, runs
from training.experiments.report.page import Page
from training.fleet import __main__ as command
from training.fleet import tables

NAN = float("nan")


def write_log(jobs, arm, seed, errors, *, epochs=None, calibrated=False, gradient=0.01, **settings):
    """What a worker leaves; an error that is NaN was not measured."""
    epochs = epochs or len(errors)
    config = ARMS[arm].config(learning_rate=0.01, epochs=epochs, seed=seed, **settings)
    gates = [] if config.gate == "none" else [[0.5, 0.25, 0.75, gradient]] * 6
    rows = []
    for epoch, error in enumerate(errors, 1):
        found = {"test_error": error, "validation_error": error + 1, "gates": gates}
        if calibrated:
            found |= {f"calibrated_{name}": x for name, x in found.items() if name != "gates"}
        known = {} if math.isnan(error) else found
        rows.append({"epoch": epoch, "train_error": 60.0, **known})
    final = {"test_error": errors[-1] - 2, "validation_error": errors[-1] - 1, "gates": gates}
    log = {"spec": {"command": config.command}, "rows": rows, "final": final}
    jobs.mkdir(exist_ok=True)
    file = jobs / f"{arm}-{seed}-{len(list(jobs.iterdir()))}.json"
    file.write_text(json.dumps({**log, "epochs": len(errors)}))
    return file


def load(jobs):
    out = jobs.parent / "tables"
    tables.write(jobs, out)
    return runs.load([out])


def test_the_logs_become_runs_of_the_report(tmp_path, capsys):
    jobs, out = tmp_path / "jobs", tmp_path / "paper" / "tables"
    write_log(jobs, "sigmoid", 0, [50.0, NAN, 40.0])
    write_log(jobs, "sgd_fmb", 1, [50.0, 45.0], calibrated=True)
    write_log(jobs, "sigmoid", 1, [50.0, 45.0], epochs=5)  # cut short
    write_log(jobs, "tanh", 1, [50.0, 45.0, 40.0], epochs=5)  # more than half of it is there
    write_log(jobs, "sigmoid", 2, [50.0, 45.0], reduction=4)  # of no arm
    (jobs / "jobs.json").write_text(json.dumps({"waves": []}))

    command.main(["tables", str(jobs), str(out)])

    assert "3 runs" in capsys.readouterr().out
    found = runs.load([out])
    epochs = found.of("sigmoid")
    assert epochs.test_error.tolist() == pytest.approx([50, NAN, 40], nan_ok=True)
    assert epochs.calibrated.tolist() == pytest.approx([NAN, NAN, 38], nan_ok=True)
    assert set(epochs.seed) == {0}
    assert found.of("sgd_fmb").calibrated.tolist() == [50, 43]
    assert found.of("sgd_fmb").group.unique() == ["sgd_ste"]
    assert found.of("tanh").calibrated.tolist() == pytest.approx([NAN, NAN, 38], nan_ok=True)
    gates = found.saturation_of("sigmoid")
    assert gates.epoch.tolist() == 6 * [1] + 6 * [3]
    assert gates[["on", "flat", "slope", "gradient"]].iloc[0].tolist() == [0.5, 0.25, 0.75, 0.01]


def test_there_is_a_report_on_tables_alone(tmp_path):
    jobs, out = tmp_path / "jobs", tmp_path / "paper" / "tables"
    for arm in ("sigmoid", "sigmoid_fmb"):
        write_log(jobs, arm, 0, [50.0] * 10)
    tables.write(jobs, out)

    said = report.write([out], tmp_path / "report")

    assert said.startswith("done: 2 runs")
    assert "of width 16: 1-bit" in (tmp_path / "report" / "report.md").read_text()
    for name in ("fig_3", "saturation"):
        assert (tmp_path / "report" / f"{name}.png").exists()


@pytest.mark.parametrize(("arm", "gradient"), [("no_se", 0.0), ("sigmoid", NAN)])
def test_runs_without_gates_and_those_that_diverged_are_runs(arm, gradient, tmp_path):
    write_log(tmp_path / "jobs", arm, 0, [50.0, 90.0], gradient=gradient)

    assert load(tmp_path / "jobs").of(arm).test_error.tolist() == [50, 90]


def test_epochs_to_an_error_need_runs_that_logged_every_epoch(tmp_path):
    for seed in range(3):
        now_and_then = seed == 2
        for arm, errors in (
            ("sigmoid", [50.0, 40.0, *[30.0] * 10]),
            ("sigmoid_fmb", [30.0] * 12),
        ):
            shown = [NAN if now_and_then and i % 2 else x for i, x in enumerate(errors)]
            write_log(tmp_path / "jobs", arm, seed, shown)

    (texts, found) = claims.CLAIMS.text, load(tmp_path / "jobs")
    outcome = claims.judge("papers", found, "as logged")[
        texts.tolist().index("FMB reaches 30 % error in fewer epochs")
    ]

    assert (outcome.effect.value, outcome.effect.count) == (pytest.approx(2), 2)


def test_curves_interpolate_what_was_not_logged(tmp_path):
    write_log(tmp_path / "jobs", "sigmoid", 0, [50.0, NAN, 40.0])
    write_log(tmp_path / "jobs", "sigmoid", 1, [NAN, 20.0, 10.0])

    filled = figures._filled(load(tmp_path / "jobs").of("sigmoid"), "test_error")

    assert filled[["seed", "epoch", "test_error"]].values.tolist() == [
        [0, 1, 50],
        [0, 2, 45],
        [0, 3, 40],
        [1, 2, 20],
        [1, 3, 10],
    ]


def test_the_gates_of_few_seeds_are_kept(tmp_path):
    for seed in range(tables.SEEDS + 1):
        write_log(tmp_path / "jobs", "sigmoid", seed, [50.0])
    found = load(tmp_path / "jobs")

    assert found.of("sigmoid").seed.nunique() == tables.SEEDS + 1
    assert found.saturation_of("sigmoid").seed.nunique() == tables.SEEDS


def test_the_saturations_picture_has_the_arms_that_there_are(tmp_path):
    write_log(tmp_path / "jobs", "sigmoid", 0, [50.0] * 12)
    page = Page()

    figures.add(page, load(tmp_path / "jobs"))

    (block,) = (block for block in page.blocks if "saturation.png" in block)
    assert "(sigmoid: 1, sigmoid + FMB: 0, scaled sigmoid: 0," in block


def test_logs_of_no_arm_are_no_tables(tmp_path):
    write_log(tmp_path / "jobs", "sigmoid", 0, [50.0], epochs=3)

    with pytest.raises(UserError, match="holds no log of a whole run"):
        tables.write(tmp_path / "jobs", tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_a_damaged_log_is_one_clear_line(tmp_path):
    file = write_log(tmp_path / "jobs", "sigmoid", 0, [50.0])
    file.write_text(file.read_text()[:50])

    with pytest.raises(UserError, match=rf"{file.name} cannot be read"):
        tables.write(tmp_path / "jobs", tmp_path / "tables")


@pytest.mark.parametrize("name", ["epochs", "gates"])
@pytest.mark.parametrize("damage", ["a column", "a value", "the file"])
def test_damaged_tables_are_one_clear_line(name, damage, tmp_path):
    write_log(tmp_path / "jobs", "sigmoid", 0, [50.0])
    load(tmp_path / "jobs")
    file = tmp_path / "tables" / f"{name}.csv"
    column = {"epochs": "test_error", "gates": "gradient"}[name]
    table = pd.read_csv(file).astype(object)
    if damage == "the file":
        file.write_text("")
    elif damage == "a column":
        table.drop(columns=column).to_csv(file, index=False)
    else:
        table.assign(**{column: "x"}).to_csv(file, index=False)

    with pytest.raises(UserError, match=r"cannot be read|holds no readable run"):
        runs.load([tmp_path / "tables"])
