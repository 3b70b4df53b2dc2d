"""The report's tables as data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.experiments.arms import ARMS, GROUPS
from training.experiments.plan import DATASETS, STAGES, steps
from training.experiments.report import claims, statistics
from training.experiments.report.runs import Run, of

NONE = "-"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Its heading.
        columns: Their headings.
        rows: The cells.
        note: What one has to know to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def all_tables(runs: Sequence[Run]) -> list[Table]:
    """Every table that the runs say something to."""
    tables = [
        verdicts("Claims", claims.PAPER, runs, "paper's effect"),
        table_1(runs),
        table_2(runs),
        table_3(runs),
        table_3(runs, calibrated=True),
        verdicts("Learned gates or masking: the controls", claims.CONTROLS, runs),
        calibrated_verdicts(runs),
        *(overview(runs, dataset) for dataset in DATASETS if any_of(runs, dataset)),
        learning_rates(runs),
    ]
    return [table for table in tables if table.rows]


def any_of(runs: Sequence[Run], dataset: str) -> bool:
    """Whether a run is on the data set."""
    return any(run.config["dataset"] == dataset for run in runs)


def verdicts(
    title: str, group: Sequence[claims.Claim], runs: Sequence[Run], paper: str = ""
) -> Table:
    """Claims with their effects and verdicts."""
    rows = []
    for claim in group:
        outcome = claims.judge(claim, runs)
        where = f" ({outcome.reason})" if outcome.reason else ""
        row = [claim.text, claim.source] if paper else [claim.text]
        if paper:
            row.append(f"{100 * claim.relative:.1f} %" if claim.relative else "no number")
        row += [_effect(outcome), f"{outcome.seeds[0]} / {outcome.seeds[1]}"]
        rows.append([*row, outcome.verdict + where])
    columns = ["claim", "source", f"{paper}, relative"] if paper else ["question"]
    return Table(title, [*columns, "effect, 95 % interval", "seeds", "verdict"], rows)


def calibrated_verdicts(runs: Sequence[Run]) -> Table:
    """Claims on the errors after 10 epochs, without what batch norm's statistics add to them."""
    return replace(
        verdicts("The same with batch norm calibrated", claims.CALIBRATED, runs),
        note="Errors are those after 10 epochs, where nothing else is said. During training, batch "
        "norm's moving statistics follow the last ten batches or so, by whose chance test errors "
        "jump from epoch to epoch. Here they are averaged over 100 batches after an epoch, so that "
        "what is left is what the weights have learned.",
    )


def _effect(outcome: claims.Outcome) -> str:
    if outcome.effect is None:
        return NONE
    text = f"{outcome.effect.value:+.2f}"
    if outcome.effect.low is not None:
        text += f" [{outcome.effect.low:+.2f}, {outcome.effect.high:+.2f}]"
    return f"{text} {outcome.claim.unit}"


def table_1(runs: Sequence[Run]) -> Table:
    """Error reduction against sigmoid without FMB after 9 epochs."""
    paper = {"sigmoid": "0 % (baseline)", "sigmoid_fmb": "44.64 %", "sigmoid_cut": "44.64 %"}
    paper |= {"tanh": "19.95 %", "tanh_fmb": "40.72 %", "tanh_cut": "40.72 %"}
    baseline = _values(of(runs, "sigmoid"), claims.error_after(9))
    rows = []
    for name in (*paper, "hard_tanh", "hard_tanh_fmb", "hard_tanh_cut"):
        errors = _values(of(runs, name), claims.error_after(9))
        reduction = NONE
        if errors and baseline:
            reduction = f"{100 * (1 - np.mean(errors) / np.mean(baseline)):.2f} %"
        if errors or name in paper:
            rows.append([ARMS[name].title, paper.get(name, NONE), reduction, summary(errors)])
    return Table(
        "Table I: error reduction against sigmoid without FMB after 9 epochs",
        ["arm", "paper", "here", "test error after 9 epochs (%)"],
        rows,
        "The paper has one FMB; here it comes with the straight-through gradient, and (cut) with "
        "none, which is the paper to the letter.",
    )


def table_2(runs: Sequence[Run]) -> Table:
    """Errors at epoch 6."""
    paper = {"sigmoid_fmb": "36.27 %", "sigmoid_cut": "36.27 %", "tanh_fmb": "46.54 %"}
    paper |= {"float32": "50.29 %"}
    rows = [
        [ARMS[name].title, number, summary(_values(of(runs, name), claims.error_after(6)))]
        for name, number in paper.items()
    ]
    return Table("Table II: error at epoch 6", ["arm", "paper", "here: test error (%)"], rows)


def table_3(runs: Sequence[Run], calibrated: bool = False) -> Table:
    """Epochs to 30 % error."""
    paper = {"sigmoid_fmb": "9", "sigmoid_cut": "9", "sigmoid": "23"}
    groups = {name: of(runs, name, calibrated=calibrated) for name in paper}
    rows = [
        [
            ARMS[name].title,
            number,
            *(epochs_to(groups[name], error, calibrated) for error in (30, 20, 15)),
        ]
        for name, number in paper.items()
        if groups[name] or not calibrated
    ]
    return Table(
        "Table III: epochs to an error" + (", batch norm calibrated" if calibrated else ""),
        ["arm", "paper: to 30 %", "here: to 30 %", "to 20 %", "to 15 %"],
        rows,
        _EPOCHS_NOTE,
    )


_EPOCHS_NOTE = (
    "The first of two epochs in a row at or below the error, seed by seed; > n: not reached in the "
    "n epochs that were trained."
)


def overview(runs: Sequence[Run], dataset: str) -> Table:
    """Every arm with its errors on a data set."""
    mine = [run for run in runs if run.config["dataset"] == dataset]
    shown = (6, 9, 10, 30, 100) if dataset == "cifar10" else (10, 30, 60)
    epochs = [epoch for epoch in shown if any(len(run.log) >= epoch for run in mine)]
    ends = [e for e in epochs if any(run.calibrated_error_after(e) is not None for run in mine)]
    measures = [
        *map(claims.error_after, epochs),
        *map(claims.calibrated_error_after, ends),
        *map(claims.training_error_after, ends),
    ]
    rows = [
        [
            ARMS[name].title,
            *(summary(_values(of(mine, name, dataset), measure)) for measure in measures),
            *(epochs_to(of(mine, name, dataset), error) for error in (30, 20, 15)),
        ]
        for name in ARMS
        if of(mine, name, dataset)
    ]
    return Table(
        f"All arms on {DATASETS[dataset]}",
        [
            "arm",
            *(f"error at {epoch} (%)" for epoch in epochs),
            *(f"calibrated at {epoch} (%)" for epoch in ends),
            *(f"training error at {epoch} (%)" for epoch in ends),
            *("to 30 %", "to 20 %", "to 15 %"),
        ],
        rows,
        "Test errors: mean ± standard deviation over the seeds, and their number. Calibrated: with "
        "batch norm's statistics averaged over 100 batches instead of the last ten or so. Training "
        "errors are means over an epoch's augmented batches, each before its step. " + _EPOCHS_NOTE,
    )


def learning_rates(runs: Sequence[Run]) -> Table:
    """What the groups were trained with."""
    rows = []
    for group in GROUPS:
        rates = sorted({run.config["learning_rate"] for run in runs if run.arm.group == group})
        if rates:
            rows.append([group, ", ".join(f"{rate:g}" for rate in rates)])
    return Table(
        "Learning rates",
        ["group of arms", "constant learning rate"],
        rows,
        "Adam, batch size 128, random crops (and mirrored on CIFAR-10), the same for every arm. "
        "The rate of a group was chosen on the validation split, from the same rates with the same "
        "number of epochs.",
    )


def missing(runs: Sequence[Run]) -> list[str]:
    """What the runs of the plan lack."""
    there = {(r.config["dataset"], r.arm.name, r.config["seed"]): len(r.log) for r in runs}
    lacking: dict[tuple[str, str, int], list[str]] = {}
    for step in steps(STAGES):
        if there.get((step.dataset, step.arm.name, step.seed), 0) < step.epochs:
            key = (step.dataset, step.arm.title, step.epochs)
            lacking.setdefault(key, []).append(str(step.seed))
    return [
        f"{DATASETS[dataset]}, {title}, to epoch {epochs}: seed {', '.join(seeds)}"
        for (dataset, title, epochs), seeds in lacking.items()
    ]


def summary(values: Sequence[float]) -> str:
    """Mean, standard deviation and number."""
    if not values:
        return NONE
    spread = statistics.spread(values)
    return f"{np.mean(values):.2f}" + (
        f" ± {spread:.2f} (n = {len(values)})" if spread is not None else " (n = 1)"
    )


def epochs_to(runs: Sequence[Run], error: float, calibrated: bool = False) -> str:
    """Epochs to an error, seed by seed, and their mean where all get there."""
    if not runs:
        return NONE
    reached = [run.epochs_to(error, calibrated) for run in runs]
    found = [int(value) for value in reached if value is not None and value != math.inf]
    each = ", ".join(
        f"> {len(run.errors(calibrated))}" if value == math.inf else str(value)
        for run, value in zip(runs, reached, strict=True)
    )
    if len(found) < len(runs) or len(runs) == 1:
        return each
    return f"{np.mean(found):.1f} ({each})"


def _values(runs: Sequence[Run], measure: claims.Measure) -> list[float]:
    return [value for value in map(measure, runs) if value is not None]
