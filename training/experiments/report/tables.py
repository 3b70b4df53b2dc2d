"""The report's tables of runs: the papers' numbers beside the measured ones, and the verdicts."""

import math

import numpy as np
import pandas as pd

from training.experiments.arms import ARMS, GROUPS
from training.experiments.plan import DATASETS, STAGES, steps
from training.experiments.report.claims import CLAIMS, judge, relative
from training.experiments.report.page import Page
from training.experiments.report.runs import Runs, measure
from training.experiments.report.statistics import NONE, summary

TABLE_1 = {
    "sigmoid": "0 % (baseline)",
    **dict.fromkeys(("sigmoid_fmb", "sigmoid_cut"), "44.64 %"),
    "tanh": "19.95 %",
    "tanh_fmb": "40.72 %",
    **dict.fromkeys(("hard_tanh", "hard_tanh_fmb"), NONE),
}
TABLE_2 = {
    **dict.fromkeys(("sigmoid_fmb", "sigmoid_cut"), "36.27 %"),
    "tanh_fmb": "46.54 %",
    "float32": "50.29 %",
}
TABLE_3 = {"sigmoid_fmb": "9", "sigmoid_cut": "9", "sigmoid": "23"}
REACHED = (30, 20, 15)


def add(page: Page, runs: Runs) -> None:
    """Every table that the runs say something to."""
    verdicts(page, "papers", runs)
    baseline = measure(runs.of("sigmoid"), "after", "test_error", 9).mean()
    rows = []
    for arm, paper in TABLE_1.items():
        errors = measure(runs.of(arm), "after", "test_error", 9)
        reduction = 100 * (1 - errors.mean() / baseline)
        shown = NONE if math.isnan(reduction) else f"{reduction:.2f} %"
        rows.append([ARMS[arm].title, paper, shown, summary(errors)])
    page.table("table 1", ["arm", "paper", "here", "test error after 9 epochs (%)"], rows)
    rows = [
        [ARMS[arm].title, paper, summary(measure(runs.of(arm), "after", "test_error", 6))]
        for arm, paper in TABLE_2.items()
    ]
    page.table("table 2", ["arm", "paper", "here: test error (%)"], rows)
    table_3(page, runs, "test_error")
    table_3(page, runs, "calibrated", ", batch norm calibrated")
    verdicts(page, "controls", runs)
    verdicts(page, "calibrated", runs)
    overview(page, runs, "cifar10", (6, 9, 10, 30, 100))
    overview(page, runs, "svhn_cropped", (10, 30, 60))
    rates = runs.epochs.groupby("group").learning_rate.unique()
    page.table(
        "learning rates",
        ["group of arms", "constant learning rate"],
        [
            [group, ", ".join(f"{rate:g}" for rate in sorted(rates[group]))]
            for group in GROUPS
            if group in rates
        ],
    )


def verdicts(page: Page, table: str, runs: Runs) -> None:
    """Claims with their effects and verdicts; the papers' with their numbers."""
    rows = []
    for claim in CLAIMS[CLAIMS.table == table].itertuples():
        found = judge(claim, runs)
        number = 100 * relative(claim)
        paper = [claim.source, "no number" if math.isnan(number) else f"{number:.1f} %"]
        unit = "epochs" if claim.how == "reach" else "points"
        rows.append(
            [
                claim.text,
                *(paper if table == "papers" else []),
                f"{found.effect} {unit}" if found.effect else NONE,
                "{} / {}".format(*found.seeds),
                found.verdict + (f" ({found.reason})" if found.reason else ""),
            ]
        )
    columns = ["question"]
    if table == "papers":
        columns = ["claim", "source", "paper's effect, relative"]
    page.table(table, [*columns, "effect, 95 % interval", "seeds", "verdict"], rows)


def table_3(page: Page, runs: Runs, column: str, title: str = "") -> None:
    """Epochs to an error, of the arms that recorded it."""
    rows = [
        [ARMS[arm].title, paper, *(epochs_to(runs.of(arm), error, column) for error in REACHED)]
        for arm, paper in TABLE_3.items()
        if column == "test_error" or runs.of(arm)[column].notna().any()
    ]
    header = ["arm", "paper: to 30 %", "here: to 30 %", "to 20 %", "to 15 %"]
    page.table("table 3", header, rows, calibrated=title)


def overview(page: Page, runs: Runs, dataset: str, shown: tuple[int, ...]) -> None:
    """Every arm with its errors on a data set, as logged and where runs were finished."""
    there = runs.epochs[runs.epochs.dataset == dataset]
    ends = there[there.finished.notna()]
    columns = [
        (title, column, epoch)
        for title, column, rows in (
            ("error", "test_error", there),
            ("calibrated", "finished", ends),
            ("training error", "train_error", ends),
        )
        for epoch in shown
        if epoch in rows.epoch.values
    ]
    cells = []
    for arm in (arm for arm in ARMS if arm in there.arm.values):
        mine = runs.of(arm, dataset)
        errors = [summary(measure(mine, "after", column, epoch)) for _, column, epoch in columns]
        cells.append([ARMS[arm].title, *errors, *(epochs_to(mine, error) for error in REACHED)])
    header = ["arm", *(f"{title} at {epoch} (%)" for title, _, epoch in columns)]
    header += [f"to {error} %" for error in REACHED]
    page.table("overview", header, cells, dataset=DATASETS[dataset])


def epochs_to(epochs: pd.DataFrame, error: float, column: str = "test_error") -> str:
    """Epochs to an error, seed by seed, and their mean where all get there."""
    reached = np.ceil(measure(epochs, "reach", column, error))
    if reached.empty:
        return NONE
    trained = epochs.dropna(subset=column).groupby("seed").size()
    each = ", ".join(
        f"> {trained[seed]}" if value == math.inf else f"{value:.0f}"
        for seed, value in reached.items()
    )
    alone = len(reached) == 1 or math.inf in reached.values
    return each if alone else f"{reached.mean():.1f} ({each})"


def missing(runs: Runs) -> list[str]:
    """What the runs of the plan lack."""
    there = runs.epochs.groupby(["dataset", "arm", "seed"]).epoch.max().to_dict()
    lacking: dict[tuple[str, str, int], list[str]] = {}
    for step in steps(STAGES):
        if there.get((step.dataset, step.arm.name, step.seed), 0) < step.epochs:
            key = (step.dataset, step.arm.title, step.epochs)
            lacking.setdefault(key, []).append(str(step.seed))
    return [
        f"{DATASETS[dataset]}, {title}, to epoch {epochs}: seed {', '.join(seeds)}"
        for (dataset, title, epochs), seeds in lacking.items()
    ]
