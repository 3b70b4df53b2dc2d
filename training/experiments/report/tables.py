"""The report's tables of runs: the papers' numbers beside the measured ones, and the verdicts."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from training.experiments.arms import ARMS, GROUPS
from training.experiments.plan import DATASETS, STAGES, steps
from training.experiments.report.claims import CLAIMS, SETTINGS, judge, power
from training.experiments.report.page import Page
from training.experiments.report.runs import Runs, measure
from training.experiments.report.statistics import NONE, summary

FEW = 5  # seeds that are shown one by one
TABLE_1 = {"sigmoid": "0 % (baseline)", "sigmoid_fmb": "44.64 %", "sigmoid_cut": "44.64 %"}
TABLE_1 |= {"tanh": "19.95 %", "tanh_fmb": "40.72 %", "hard_tanh": NONE, "hard_tanh_fmb": NONE}
TABLE_2 = {"sigmoid_fmb": "36.27 %", "sigmoid_cut": "36.27 %"}
TABLE_2 |= {"tanh_fmb": "46.54 %", "float32": "50.29 %"}
TABLE_3 = {"sigmoid_fmb": "9", "sigmoid_cut": "9", "sigmoid": "23"}


def add(page: Page, runs: Runs) -> None:
    """Every table that the runs say something to."""
    page.table("papers", verdicts("papers", runs, SETTINGS))
    page.table("table 1", [_table_1(arm, runs) for arm in TABLE_1])
    rows = [[_title(arm), TABLE_2[arm], *errors(runs.of(arm), [6])] for arm in TABLE_2]
    page.table("table 2", rows)
    page.table("table 3", table_3(runs, "test_error"), calibrated="")
    page.table("table 3", table_3(runs, "calibrated"), calibrated=", batch norm calibrated")
    page.table("controls", verdicts("controls", runs, ["calibrated"]))
    page.table("power", power(runs))
    page.table("cifar10", overview(runs, "cifar10", (6, 9, 10, 30, 100), (10, 30, 100)))
    page.table("svhn_cropped", overview(runs, "svhn_cropped", (10, 30, 60), (60,)))
    rates = runs.epochs.groupby("group").learning_rate.unique()
    rows = [[g, ", ".join(f"{r:g}" for r in sorted(rates[g]))] for g in GROUPS if g in rates]
    page.table("learning rates", rows)


def verdicts(table: str, runs: Runs, settings: Iterable[str]) -> list[list[str]]:
    """Claims with their effects and verdicts in each setting; the papers' with their numbers."""
    found = [judge(table, runs, setting) for setting in settings]
    rows = []
    for claim, *outcomes in zip(CLAIMS[CLAIMS.table == table].itertuples(), *found, strict=True):
        number = NONE if math.isnan(claim.relative) else f"{100 * claim.relative:.1f} %"
        row = [claim.text, *([claim.source, number] if table == "papers" else [])]
        for outcome in outcomes:
            effect = outcome and outcome.effect
            row += [
                f"{effect} {claim.unit}" if effect else NONE,
                str(effect.count) if effect else NONE,
                outcome.verdict if outcome else NONE,
            ]
        rows.append(row)
    return rows


def _title(arm: str) -> str:
    return ARMS[arm].title


def _table_1(arm: str, runs: Runs) -> list[str]:
    """Error reduction against sigmoid without FMB after 9 epochs."""
    mine, baseline = (measure(runs.of(x), "after", "test_error", 9) for x in (arm, "sigmoid"))
    reduction = 100 * (1 - mine.mean() / baseline.mean())
    shown = NONE if math.isnan(reduction) else f"{reduction:.2f} %"
    return [_title(arm), TABLE_1[arm], shown, summary(mine)]


def table_3(runs: Runs, column: str) -> list[list[str]]:
    """Epochs to an error, of the arms that recorded it."""
    return [
        [_title(arm), paper, *epochs_to(runs.of(arm), column)]
        for arm, paper in TABLE_3.items()
        if column == "test_error" or runs.of(arm)[column].notna().any()
    ]


def overview(
    runs: Runs, dataset: str, logged: Iterable[int], finished: Iterable[int]
) -> list[list[str]]:
    """Every arm with its errors on a data set, as logged and with batch norm calibrated."""
    rows = []
    for arm in ARMS:
        mine = runs.of(arm, dataset)
        ends = [*errors(mine, finished, "calibrated"), *errors(mine, finished, "train_error")]
        rows.append([_title(arm), *errors(mine, logged), *ends, *epochs_to(mine)])
    return [row for row in rows if set(row[1:]) != {NONE}]


def errors(runs: pd.DataFrame, epochs: Iterable[int], column: str = "test_error") -> list[str]:
    """An arm's errors after some epochs, over its seeds."""
    return [summary(measure(runs, "after", column, epoch)) for epoch in epochs]


def epochs_to(runs: pd.DataFrame, column: str = "test_error") -> list[str]:
    """Epochs to 30, 20 and 15 % error, seed by seed; of many, those that get there."""
    trained = runs.dropna(subset=column).groupby("seed").size()
    cells = []
    for error in (30, 20, 15):
        reached = np.ceil(measure(runs, "reach", column, error))
        there = reached[reached < math.inf]
        each = [f"{x:.0f}" if x < math.inf else f"> {trained[i]}" for i, x in reached.items()]
        if len(each) > FEW:
            lacking = len(each) - len(there)
            found = [summary(there)] if len(there) else []
            cells.append("; ".join(found + [f"{lacking} of {len(each)} do not"] * bool(lacking)))
        elif len(each) == len(there) > 1:
            cells.append(f"{there.mean():.1f} ({', '.join(each)})")
        else:
            cells.append(", ".join(each) or NONE)
    return cells


def missing(runs: Runs) -> list[str]:
    """What the runs of the plan lack."""
    there = runs.epochs.groupby(["dataset", "arm", "seed"]).size().to_dict()
    lacking: dict[str, list[str]] = {}
    for step in steps(STAGES):
        if there.get((step.dataset, step.arm.name, step.seed), 0) < step.epochs:
            run = f"{DATASETS[step.dataset]}, {step.arm.title}, to epoch {step.epochs}"
            lacking.setdefault(run, []).append(str(step.seed))
    return [f"{run}: seed {', '.join(seeds)}" for run, seeds in lacking.items()]
