"""Finished and unfinished runs of the arms, as the report reads them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import UserError
from training.experiments.arms import Arm, identify
from training.experiments.plan import HORIZON
from training.trainer.run_folder import Row, read_rows

IN_A_ROW = 2  # epochs at or below an error, before it counts as reached


@dataclass(frozen=True)
class Run:
    """A run of an arm.

    Attributes:
        folder: Where it lies.
        arm: Whose run it is.
        config: Its resolved configuration.
        log: One row an epoch.
        gates: One row an epoch and module; see `training/trainer/gates.py`.
        results: One row for each number of epochs that the run was finished with.
        calibrated: One row an epoch, with batch norm calibrated: of as many epochs as Table III
            looks at, if the run is so long; or none.
    """

    folder: Path
    arm: Arm
    config: dict[str, Any]
    log: list[Row]
    gates: list[Row]
    results: list[Row]
    calibrated: list[Row]

    def error_after(self, epoch: int, column: str = "test_error") -> float | None:
        """Top-1 error of the test split, or another of the log's errors, if the run is so long."""
        return self.log[epoch - 1][column] if epoch <= len(self.log) else None

    def calibrated_error_after(self, epoch: int) -> float | None:
        """On the test split in float32, batch norm calibrated, if the run was finished there."""
        return next((row["test_error"] for row in self.results if row["epoch"] == epoch), None)

    def errors(self, calibrated: bool = False) -> list[float]:
        """Test errors of all epochs; with batch norm calibrated, if the run recorded them so."""
        return [row["test_error"] for row in (self.calibrated if calibrated else self.log)]

    def epochs_to(self, error: float, calibrated: bool = False) -> float | None:
        """Epochs until the test error is at or below `error`, and still is an epoch later.

        So that a single lucky epoch does not count. Infinite if the run does not get there, `None`
        if it did not record such errors.
        """
        below = [value <= error for value in self.errors(calibrated)]
        for start in range(len(below) - IN_A_ROW + 1):
            if all(below[start : start + IN_A_ROW]):
                return start + 1
        return math.inf if below else None

    def time_to(self, error: float, calibrated: bool = False) -> float | None:
        """As `epochs_to`, interpolated linearly from the epoch before."""
        epoch = self.epochs_to(error, calibrated)
        if epoch is None or epoch in (1, math.inf):
            return epoch
        before, after = self.errors(calibrated)[int(epoch) - 2 : int(epoch)]
        return epoch - (error - after) / (before - after)

    def gate_rows(self, epoch: int) -> list[Row]:
        """The gates' statistics after an epoch, module by module; none where none are recorded."""
        return [row for row in self.gates if row["epoch"] == epoch]


def load(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read runs.

    Returns:
        The runs of arms, and the names of the folders that hold another run.

    Raises:
        UserError: A folder holds no run, or runs of one arm cannot be compared.
    """
    runs, others = [], []
    for folder in folders:
        run = _read(folder)
        if run is None:
            others.append(folder.name)
        else:
            runs.append(run)
    _check(runs)
    return runs, others


def _read(folder: Path) -> Run | None:
    try:
        config = json.loads((folder / "config.json").read_text())["config"]
        log = read_rows(folder / "log.csv")
        arm = identify(config)
        if arm is None or not log:
            return None
        gates, results, calibrated = (
            read_rows(folder / name) if (folder / name).exists() else []
            for name in ("gates.csv", "results.csv", "calibrated.csv")
        )
        if [row["epoch"] for row in log] != list(range(1, len(log) + 1)):
            raise ValueError("its log is not one row an epoch")
        gates = [row for row in gates if row["epoch"] <= len(log)]
        looked_at = list(range(1, min(len(log), HORIZON) + 1))
        calibrated = calibrated[: len(looked_at)]
        if [row["epoch"] for row in calibrated] != looked_at:
            calibrated = []
        return Run(folder, arm, config, log, gates, results, calibrated)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder} holds no readable run: {error!r}") from error


def _check(runs: Sequence[Run]) -> None:
    """Runs of one arm on one data set differ in nothing but their seeds."""
    first: dict[tuple[str, str], Run] = {}
    seeds: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        dataset, seed = run.config["dataset"], run.config["seed"]
        other = first.setdefault((dataset, run.arm.name), run)
        for key in ("learning_rate", "width"):
            if run.config[key] != other.config[key]:
                raise UserError(
                    f"{other.folder} and {run.folder} are runs of one arm with --"
                    f"{key.replace('_', '-')} {other.config[key]} and {run.config[key]}: "
                    "report on one of them"
                )
        twin = seeds.setdefault((dataset, run.arm.name, seed), run)
        if twin is not run:
            raise UserError(f"{twin.folder} and {run.folder} are the same arm and seed")


def of(
    runs: Iterable[Run], arm: str, dataset: str = "cifar10", calibrated: bool = False
) -> list[Run]:
    """The runs of an arm on a data set; only those with calibrated errors, if asked for."""
    mine = [run for run in runs if run.arm.name == arm and run.config["dataset"] == dataset]
    return [run for run in mine if run.calibrated or not calibrated]
