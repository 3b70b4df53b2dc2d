import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from training import UserError
from training.experiments.arms import ARMS
from training.experiments.plan import DATASETS, STAGES, steps
from training.experiments.report import __main__ as report
from training.experiments.report import claims, figures, position, runs, statistics, tables
from training.experiments.report.page import Page
from training.tables import markdown

RATES = {"without": 0.002, "ste": 0.001, "cut": 0.001, "float32": 0.005, "sgd": 0.1, "sgd_ste": 0.1}


def write_run(
    root, name, seed, errors, *, dataset="cifar10", between=0.5, rate=None, calibrated=None
):
    """A run's folder as `training.fit` and the queue leave it, with the given test errors."""
    arm = ARMS[name]
    rate = rate or RATES[arm.group]
    config = arm.config(learning_rate=rate, epochs=len(errors), seed=seed, dataset=dataset)
    folder = root / f"{dataset}_{name}_seed{seed}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": config.decisive()}))
    rows = [f"{i},{error + 1},{error},30" for i, error in enumerate(errors, 1)]
    header = "epoch,train_error,test_error,seconds"
    (folder / "results.csv").write_text(f"epoch,test_error\n{len(errors)},{errors[-1] - 2}\n")
    (folder / "log.csv").write_text("\n".join([header, *rows]) + "\n")
    if calibrated:
        lines = [f"{i},{error}" for i, error in enumerate(calibrated, 1)]
        (folder / "calibrated.csv").write_text("\n".join(["epoch,test_error", *lines]) + "\n")
    if config.gate != "none":
        low = 0 if config.gate == "sigmoid" else -1
        bins = [f"bin_{i:02d}" for i in range(20)]
        lines = [",".join(["epoch,module,fmb,low,high,channels,open,ever_open,always_open", *bins])]
        for epoch in range(1, len(errors) + 1):
            middle = between / epoch
            shares = [(1 - middle) * 0.6, *[middle / 18] * 18, (1 - middle) * 0.4]
            fixed = [epoch, 1, int(config.fmb), low, 1, 16, 0.4, 0.9, 0.1]
            lines.append(",".join(map(str, [*fixed, *shares])))
        (folder / "gates.csv").write_text("\n".join(lines) + "\n")
    return folder


def curve(end, length=10, start=70.0):
    return np.linspace(start, end, length).tolist()


def load(*folders):
    return runs.load(folders)


FMB_LOWERS = "FMB lowers sigmoid's error"
FEWER_EPOCHS = "FMB reaches 30 % error in fewer epochs"


def judged(text, found, setting="as logged", table="papers"):
    """The outcome of the claim with this text."""
    texts = claims.CLAIMS[claims.CLAIMS.table == table].text
    return dict(zip(texts, claims.judge(table, found, setting), strict=True))[text]


def two_arms(root, fmb, without, length=12):
    """Runs whose errors are constant."""
    folders = [write_run(root, "sigmoid_fmb", i, [e] * length) for i, e in enumerate(fmb)]
    folders += [write_run(root, "sigmoid", i, [e] * length) for i, e in enumerate(without)]
    return load(*folders)


@pytest.mark.parametrize(
    ("fmb", "without", "expected"),
    [
        ([20, 41, 62], [40, 61, 82], "reproduced"),  # the seeds differ, the pairs do not
        ([40, 61, 82], [20, 41, 62], "reversed"),
        ([40, 40, 40], [41.2, 42, 42.8], "reproduced, uncorrected"),  # p = 0.049, of several
        ([41.2, 42, 42.8], [40, 40, 40], "reversed, uncorrected"),
        ([20, 41, 60], [30, 40, 55], "no effect larger than 20.6 points"),
        ([20, 20], [20, 20], "no effect larger than 0.0 points"),
        ([20], [40, 41, 42], "one run of each"),
        ([], [40, 41, 42], "no run"),
    ],
)
def test_verdict_on_the_errors_of_two_arms(fmb, without, expected, tmp_path):
    assert judged(FMB_LOWERS, two_arms(tmp_path, fmb, without)).verdict == expected


def test_a_claim_counts_the_runs_on_its_own_data_set(tmp_path):
    errors = {
        "cifar10": {"sigmoid_fmb": 60, "sigmoid": 20},
        "svhn_cropped": {"sigmoid_fmb": 5, "sigmoid": 9},
    }
    found = load(
        *(
            write_run(tmp_path, arm, seed, [error] * 60, dataset=dataset)
            for dataset, arms in errors.items()
            for arm, error in arms.items()
            for seed in range(2 if dataset == "cifar10" else 3)
        )
    )

    effect = judged(
        f"{FMB_LOWERS} on the SVHN subset (8,886 / 7,136), after 60 epochs", found
    ).effect

    assert (effect.value, effect.count) == (pytest.approx(4), 3)


def test_each_setting_judges_errors_of_its_own(tmp_path):
    calibrated = {"sigmoid_fmb": 30.0, "sigmoid": 25.0}
    found = load(
        *(
            write_run(tmp_path, arm, seed, [error] * 10, calibrated=[calibrated[arm]] * 10)
            for arm, error in [("sigmoid_fmb", 40), ("sigmoid", 50)]
            for seed in range(2)
        )
    )

    assert judged(FMB_LOWERS, found).effect.value == pytest.approx(10)
    assert judged(FMB_LOWERS, found, "calibrated").effect.value == pytest.approx(-5)
    gates = "FMB reduces the number of active channels (after 10 epochs)"
    assert judged(gates, found).effect.count == 2
    assert judged(gates, found, "calibrated") is None  # it is no error


def test_where_no_epoch_was_calibrated_the_end_is(tmp_path):
    at_10 = two_arms(tmp_path / "10", [30, 31], [20, 21], length=10)
    at_12 = two_arms(tmp_path / "12", [30, 31], [20, 21], length=12)

    assert judged(FMB_LOWERS, at_10, "calibrated").verdict == "reversed"
    assert judged(FMB_LOWERS, at_12, "calibrated").verdict == "no run"
    assert at_12.of("sigmoid").calibrated.dropna().tolist() == [18, 19]


def test_two_arms_without_common_seeds_have_welchs_interval():
    found = statistics.effect(pd.Series([5, 7], [8, 9]), pd.Series([1, 2, 3]))

    # By hand: s1^2/n1 = 1, s2^2/n2 = 1/3; Welch's degrees of freedom 1.684, t(0.975) = 5.176
    half = 5.176 * (4 / 3) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((4, 4 - half, 4 + half), 1e-3)
    assert found.count == 2


def test_runs_of_the_same_seeds_have_the_interval_of_their_differences():
    found = statistics.effect(pd.Series([5, 17, 30, 99], [0, 1, 2, 7]), pd.Series([4, 15, 27]))

    # By hand: the differences 1, 2 and 3 have the mean 2 and s / sqrt(n) = 0.577; t(0.975) = 4.303;
    # of 2 degrees of freedom, p = 1 - t / sqrt(t^2 + 2), and t^2 = 12
    half = 4.303 * 3**-0.5
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), 1e-3)
    assert (found.p, found.count) == (pytest.approx(1 - (12 / 14) ** 0.5), 3)


def test_ten_pairs_have_the_bootstraps_interval():
    """Which is within what was seen, unlike Student's."""
    differences = pd.Series([0.1] * 8 + [10.0])
    nine = statistics.effect(differences, 0 * differences)
    more = pd.concat([differences, pd.Series([0.1])], ignore_index=True)
    ten = statistics.effect(more, 0 * more)

    assert nine.low < 0
    assert 0.1 <= ten.low < ten.value < ten.high < 10
    assert ten.p > 0.05  # still the t test's


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.02, 0.01], [0.02, 0.02]),
        ([0.9, 0.6], [1, 1]),
        ([], []),
    ],
)
def test_p_values_are_corrected_by_holms_method(p, corrected):
    assert statistics.holm(p) == pytest.approx(corrected)


@pytest.mark.parametrize(
    ("errors", "error", "expected"),
    [
        ([50, 29, 40, 30, 28, 35, 29], 30, 4),  # one lucky epoch does not count
        ([50, 29, 40, 30, 28, 35, 29], 28, math.inf),
        ([50, 29, 40, 30, 28, 35, 29], 35, 3.5),  # interpolated from the epoch before
        ([50, 40, 30], 30, math.inf),  # nor does the last one alone
        ([50, 40, 30], 40, 2),
        ([20, 20], 30, 1),
    ],
)
def test_an_error_is_reached_where_two_epochs_in_a_row_are_at_or_below_it(
    errors, error, expected, tmp_path
):
    found = load(write_run(tmp_path, "sigmoid", 3, errors)).of("sigmoid")

    assert runs.measure(found, "reach", "test_error", error).to_dict() == {3: expected}


def reaching(epoch, length):
    return [40.0] * (epoch - 1) + [29.0] * (length - epoch + 1)


def test_an_error_is_to_be_reached_in_the_first_12_epochs(tmp_path):
    found = load(
        write_run(tmp_path, "sigmoid_fmb", 0, reaching(8, 30)),
        write_run(tmp_path, "sigmoid_fmb", 1, reaching(9, 12)),
        write_run(tmp_path, "sigmoid", 0, reaching(23, 30)),  # counts as 13
        write_run(tmp_path, "sigmoid", 1, [40.0] * 12),
    )

    effect = judged(FEWER_EPOCHS, found).effect

    interpolated = 1 / 11  # of the step from 40 to 29 that lies below 30
    assert effect.value == pytest.approx((13 - 8 + 13 - 9) / 2 + interpolated)
    assert effect.count == 2


def test_epochs_to_a_calibrated_error_compare_runs_that_recorded_it(tmp_path):
    noise = [61.0] * 12
    found = load(
        write_run(tmp_path, "sigmoid_fmb", 0, noise, calibrated=reaching(5, 12)),
        write_run(tmp_path, "sigmoid_fmb", 1, noise, calibrated=reaching(5, 12)),
        write_run(tmp_path, "sigmoid_fmb", 2, noise),
        write_run(tmp_path, "sigmoid_fmb", 3, noise, calibrated=reaching(1, 4)),  # not all epochs
        write_run(tmp_path, "sigmoid", 0, noise, calibrated=reaching(8, 12)),
        write_run(tmp_path, "sigmoid", 1, noise, calibrated=reaching(8, 12)),
        write_run(tmp_path, "sigmoid", 2, noise, calibrated=None),
    )

    verdict, effect = judged(FEWER_EPOCHS, found, "calibrated")

    assert (verdict, effect.count) == ("reproduced", 2)
    assert effect.value == pytest.approx(3)
    rows = {row[0]: row[1:3] for row in tables.table_3(found, "calibrated")}
    assert rows == {"sigmoid": ["23", "8.0 (8, 8)"], "sigmoid + FMB": ["9", "5.0 (5, 5)"]}


@pytest.mark.parametrize(
    ("fmb", "without", "expected"),
    [
        ([12.0, 12.1], [12.1, 12.2], "reproduced"),
        ([12.0, 12.1], [22.0, 22.1], "not reproduced"),
        ([12.0, 16.0], [12.0, 15.0], "no effect larger than 6.9 points"),
        ([12.0], [12.0], "one run of each"),
    ],
)
def test_verdict_on_arms_that_are_claimed_to_be_close(fmb, without, expected, tmp_path):
    found = two_arms(tmp_path, fmb, without, length=100)

    assert judged("After 100 epochs the arms are close together", found).verdict == expected


def test_gates_are_compared_within_each_run(tmp_path):
    folders = [
        write_run(tmp_path, "sigmoid", seed, curve(30), between=between)
        for seed, between in enumerate((0.2, 0.5))
    ]

    outcome = judged(
        "Fewer of SE1's gates lie between 0 and 1 at epoch 10 than at epoch 1, without FMB",
        load(*folders),
    )

    assert outcome.effect.value == pytest.approx(100 * np.mean([0.2 - 0.02, 0.5 - 0.05]))
    assert outcome.verdict == "no effect larger than 203.0 points"  # two seeds are far apart


def test_active_channels_are_those_that_some_image_opens(tmp_path):
    folder = write_run(tmp_path, "sigmoid", 0, curve(30, 1))
    rows = (folder / "gates.csv").read_text().splitlines()
    second = rows[1].replace("1,1,0,0,1,16,0.4,0.9", "1,2,0,0,1,48,0.4,0.5")
    (folder / "gates.csv").write_text("\n".join([*rows, second]) + "\n")

    assert load(folder).of("sigmoid").active.tolist() == [
        pytest.approx(100 * (16 * 0.9 + 48 * 0.5) / 64)
    ]


def test_every_claim_is_about_arms_and_quantities_that_there_are():
    for claim in claims.CLAIMS.itertuples():
        assert {claim.lower, claim.higher} <= set(ARMS)
        assert claim.dataset in DATASETS
        assert claim.column in {*runs.ERRORS, "error"}
        assert claim.how in ("after", "close", "mean", "reach")


def test_every_picture_is_of_arms_that_there_are():
    for spec in figures.FIGURES.itertuples():
        assert set(spec.arms.split()) <= set(ARMS)
        assert spec.column in runs.ERRORS or spec.block != "curves"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report on some of the runs, one of them of no arm."""
    root = tmp_path_factory.mktemp("results")
    folders = [
        write_run(root, name, seed, curve(end + seed))
        for name, end in [("sigmoid", 40), ("sigmoid_fmb", 25), ("tanh", 35), ("float32", 20)]
        for seed in range(3)
    ]
    other = write_run(root, "sigmoid", 7, curve(30))
    config = json.loads((other / "config.json").read_text())
    config["config"]["schedule"] = "cosine"
    (other / "config.json").write_text(json.dumps(config))
    out = root / "report"
    said = report.write([*folders, other], out)
    return out, said


def test_the_report_shows_its_pictures_which_lie_beside_it(written):
    out, _ = written
    shown = re.findall(r"!\[.+\]\((.+)\)", (out / "report.md").read_text())

    assert set(shown) == {file.name for file in out.glob("*.png")}
    assert {"fig_3.png", "fig_4_5.png", "fig_6.png", "gates_by_epoch.png"} <= set(shown)
    for name in shown:
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_the_tables_hold_the_papers_numbers_beside_the_measured_ones(written):
    out, _ = written
    text = (out / "report.md").read_text()

    assert "| sigmoid + FMB | 44.64 % |" in text
    final = [70 + (40 + seed - 70) * 8 / 9 for seed in range(3)]  # after epoch 9 of 10
    assert f"{np.mean(final):.2f} ± {np.std(final, ddof=1):.2f} (n = 3)" in text
    assert (
        "39.00 ± 1.00 (n = 3) | - | - | 42.00 ± 1.00 (n = 3)" in text
    )  # calibrated, and in training
    assert "| 36.27 % |" in text
    assert "| sigmoid | 23 |" in text


def test_the_report_says_what_is_missing_and_what_it_left_out(written):
    out, said = written
    text = (out / "report.md").read_text()

    assert "groups of runs are missing" in said
    assert "CIFAR-10, tanh + FMB, to epoch 10: seed 0, 1, 2" in text
    assert "CIFAR-10, tanh, to epoch 10" not in text
    assert "CIFAR-10, sigmoid, to epoch 100: seed 0" in text
    assert "Left out, since they are no run of an arm: cifar10_sigmoid_seed7" in text


def test_nothing_is_missing_when_the_plan_is_done(tmp_path):
    longest = {}
    for step in steps(STAGES):
        longest[step.dataset, step.arm.name, step.seed] = step.epochs
    folders = [
        write_run(tmp_path, name, seed, curve(20, length), dataset=dataset)
        for (dataset, name, seed), length in longest.items()
    ]

    assert tables.missing(load(*folders)) == []


def test_no_cell_ends_its_column_or_its_line():
    assert markdown(["name", "size:"], [["a|b", 1], ["two\nlines", 2]]).splitlines() == [
        "| name | size |",
        "|---|---:|",
        "| a\\|b | 1 |",
        "| two lines | 2 |",
    ]


def test_the_published_report_is_what_the_logs_give():
    results = ROOT / "training" / "results"
    page = Page()

    tables.add(page, load(*report.found(results / "paper")))
    position.add(page, results, results / "report")

    text = (results / "report" / "report.md").read_text()
    assert len(page.blocks) > 10
    for block in page.blocks:
        assert block in text


def test_runs_that_cannot_be_compared(tmp_path):
    first = write_run(tmp_path / "a", "sigmoid", 0, curve(30))
    other_rate = write_run(tmp_path / "b", "sigmoid", 1, curve(30), rate=0.5)
    twin = write_run(tmp_path / "c", "sigmoid", 0, curve(30))

    with pytest.raises(UserError, match=r"one arm with --learning-rate 0\.002 and 0\.5"):
        runs.load([first, other_rate])
    with pytest.raises(UserError, match="are the same arm and seed"):
        runs.load([first, twin])


@pytest.mark.parametrize("name", ["config.json", "log.csv", "gates.csv"])
def test_a_damaged_run_is_one_clear_line(name, tmp_path, capsys):
    folder = write_run(tmp_path, "sigmoid", 0, curve(30))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(SystemExit) as caught:
        report.main([str(folder), "--out", str(tmp_path / "report")])

    assert str(caught.value).startswith("training.report: error: ")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_whose_loss_was_no_number_is_a_run(tmp_path):
    folder = write_run(tmp_path, "sigmoid", 0, [50, 60])
    log = folder / "log.csv"
    log.write_text(log.read_text().replace("seconds", "loss").replace(",30", ",nan"))

    assert load(folder).of("sigmoid").test_error.tolist() == [50, 60]


def test_folders_without_runs(tmp_path):
    with pytest.raises(SystemExit, match="holds no readable run"):
        report.main([str(tmp_path / "nothing")])


def test_a_place_that_cannot_be_written_to(tmp_path):
    folder = write_run(tmp_path, "sigmoid", 0, curve(30))
    (tmp_path / "file").write_text("mine")

    with pytest.raises(SystemExit, match="cannot be written to"):
        report.main([str(folder), "--out", str(tmp_path / "file")])


@pytest.mark.parametrize(("matters", "pairs"), [(0.2, 265), (0.5, 44), (0.8, 19)])
def test_seeds_needed_are_those_of_the_tables(matters, pairs):
    """As G*Power has them: two-sided paired t test, 5 %, power 0.9."""
    differences = pd.Series([-1, 1]) / math.sqrt(2)  # whose deviation is 1
    assert statistics.seeds_needed(differences, matters) == pairs


@pytest.mark.parametrize("count", [2, 3, 44])
def test_what_so_many_pairs_detect_needs_so_many(count):
    differences = pd.Series(np.arange(count))
    found = statistics.detectable(differences)

    assert statistics.seeds_needed(differences, 1.001 * found) == count
    assert statistics.seeds_needed(differences, 0.999 * found) == count + 1


def test_power_is_told_of_pairs_alone(tmp_path):
    curves = {"sigmoid": (40, 42, 45), "sigmoid_fmb": (38, 41, 39, 50)}
    folders = [
        write_run(tmp_path, arm, seed, [error] * 10)
        for arm, errors in curves.items()
        for seed, error in enumerate(errors)
    ]
    rows = {row[0]: row[1:] for row in claims.power(runs.load(folders))}
    pairs, spread, found, matters, needed = rows["error after 10 epochs, as logged"]
    assert (pairs, spread, matters) == ("3", "2.65 points", "1")
    assert float(found) > 1
    assert int(needed) > 50


def test_power_needs_two_pairs(tmp_path):
    folders = [write_run(tmp_path, arm, 0, [40] * 10) for arm in ("sigmoid", "sigmoid_fmb")]
    assert claims.power(runs.load(folders)) == []
