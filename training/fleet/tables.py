"""The logs of many runs of the papers' arms as two tables, which `training.report` reads."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from training import UserError, flags
from training.experiments.arms import identify
from training.experiments.records import read_json, write_csv
from training.trainer.config import Config

ERRORS = {
    "train_error": "train_error",
    "validation_error": "validation_error",
    "test_error": "test_error",
    "calibrated_validation_error": "calibrated_validation",
    "calibrated_test_error": "calibrated",
}
"""A worker's names, and the table's."""

GATES = ("on", "flat", "slope", "gradient")
"""What a worker measures of each module: see `gpu.learning.Run.gates`."""

SEEDS = 8  # whose gates are kept


def write(folder: Path, out: Path) -> int:
    """Write `epochs.csv` and `gates.csv`.

    Args:
        folder: Of the jobs, with the logs.
        out: Where to write.

    Returns:
        The number of runs; those of none of the papers' arms are left out, and those that were cut
        short, unless they are the first half, at least, of one at a constant rate.

    Raises:
        UserError: The folder holds no run of an arm, or a log is damaged.
    """
    logs = [read_json(file) for file in sorted(folder.glob("*.json"))]
    rows = [row for log in logs if "rows" in log for row in _rows(log)]
    if not rows:
        raise UserError(f"{folder} holds no log of a whole run of the papers' arms")
    out.mkdir(parents=True, exist_ok=True)
    epochs = pd.DataFrame([{k: x for k, x in row.items() if k != "gates"} for row in rows])
    few = sorted({row["seed"] for row in rows})[:SEEDS]
    about = ["dataset", "arm", "seed", "epoch"]
    gates = [
        [*(row[name] for name in about), module, *(f"{x:.4g}" for x in values)]
        for row in rows
        if row["seed"] in few
        for module, values in enumerate(row["gates"], 1)
    ]
    write_csv(out / "epochs.csv", epochs.round(3).astype(object).fillna("nan"))
    write_csv(out / "gates.csv", pd.DataFrame(gates, columns=[*about, "module", *GATES]))
    return len(epochs.groupby(["dataset", "arm", "seed"]))


def _is_a_beginning(config: Config, epochs: int) -> bool:
    """Whether a run that was cut short is one of fewer epochs, and of at least half of them."""
    return config.schedule == "constant" and 2 * epochs >= config.epochs


def _rows(log: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    spec = log["spec"]
    config = flags.parse(Config, "", "", shlex.split(spec["command"])[3:])
    arm = identify(config.decisive())
    is_whole = log["epochs"] == config.epochs
    if arm is None or not (is_whole or _is_a_beginning(config, log["epochs"])):
        return
    about = {"dataset": config.dataset, "arm": arm.name, "group": arm.group, "seed": config.seed}
    about |= {"learning_rate": config.learning_rate, "width": config.width}
    for row in log["rows"]:
        if row["epoch"] == log["epochs"]:
            row = {**row, **{f"calibrated_{name}": x for name, x in log["final"].items()}}
        errors = {name: row.get(key) for key, name in ERRORS.items()}
        shown = row.get("calibrated_gates") or row.get("gates") or []
        yield {**about, "epoch": row["epoch"], **errors, "gates": shown}
