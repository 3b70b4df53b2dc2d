"""Finished and unfinished runs of the arms, as the report reads them: once, into tables."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from training import UserError
from training.experiments.arms import identify
from training.experiments.plan import HORIZON
from training.experiments.records import read_csv, read_json

RUN = ["dataset", "arm", "group", "seed", "learning_rate", "width"]
LOGGED = ["epoch", "train_error", "test_error"]
ERRORS = ["train_error", "test_error", "calibrated", "finished", "between", "active"]


@dataclass(frozen=True)
class Runs:
    """Runs of arms.

    Attributes:
        epochs: One row a run and epoch: the run (`RUN`) and its `length`, the `epoch`, and in
            percent:
            train_error   mean over the epoch's augmented batches, each before its step
            test_error    top-1, on the test split
            calibrated    the same with batch norm calibrated, in a run that recorded it for as many
                          epochs as Table III looks at, or for all if it is shorter; and where the
                          run was finished with so many epochs
            finished      the same in float32, where the run was finished with so many epochs
            between       share of SE1's channel weights before FMB that are neither low nor high:
                          in the 18 of 20 bins between the first and the last
            active        share of all modules' channels that some image opens
        gates: One row a run, epoch and module: see `training/trainer/gates.py`.
        saturation: One row a run on a GPU, epoch and module: see `training/fleet/gpu/learning.py`.
        others: The names of folders that hold another run.
    """

    epochs: pd.DataFrame
    gates: pd.DataFrame
    saturation: pd.DataFrame
    others: list[str]

    def of(self, arm: str, dataset: str = "cifar10") -> pd.DataFrame:
        """The epochs of an arm's runs."""
        return self.epochs.query("arm == @arm and dataset == @dataset")

    def saturation_of(self, arm: str, dataset: str = "cifar10") -> pd.DataFrame:
        """What an arm's gates let through, of the first ten epochs."""
        return self.saturation.query("arm == @arm and dataset == @dataset and epoch <= 10")

    def gates_of(self, arm: str, dataset: str = "cifar10") -> pd.DataFrame:
        """The gates of an arm's runs, in the epochs that all of them recorded."""
        gates = self.gates.query("arm == @arm and dataset == @dataset")
        return gates[gates.groupby("epoch").seed.transform("nunique") == gates.seed.nunique()]


def load(folders: Iterable[Path]) -> Runs:
    """Read runs.

    Raises:
        UserError: There is no run of an arm, a folder holds no run, or runs of one arm cannot be
            compared.
    """
    found = {folder: _read(folder) for folder in folders}
    tables = [run for run in found.values() if run]
    if not tables:
        raise UserError("there are no runs of the papers' arms: train some, or name their folders")
    epochs, gates, saturation = (pd.concat(parts) for parts in zip(*tables, strict=True))
    _check(epochs)
    others = [folder.name for folder, run in found.items() if not run]
    return Runs(epochs, gates, saturation, others)


_Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
_NO_GATES = pd.DataFrame(columns=["epoch", "module", *RUN])


def _read_many(folder: Path) -> _Tables:
    """The tables of many runs that `training.fleet` left."""
    epochs, saturation = (read_csv(folder / f"{name}.csv") for name in ("epochs", "gates"))
    epochs = epochs.astype(dict.fromkeys(("train_error", "test_error", "calibrated"), float))
    saturation = saturation.astype(dict.fromkeys(("on", "flat", "slope", "gradient"), float))
    length = epochs.groupby(["dataset", "arm", "seed"]).epoch.transform("max")
    unknown = dict.fromkeys(("finished", "between", "active"), math.nan)
    epochs = epochs.assign(folder=folder, length=length, **unknown)
    return epochs[[*RUN, "folder", "length", "epoch", *ERRORS]], _NO_GATES, saturation


def _read(folder: Path) -> _Tables | None:
    """The epochs and the gates of an arm's run, or of many; `None` of another run."""
    try:
        if (folder / "epochs.csv").exists():
            return _read_many(folder)
        config = read_json(folder / "config.json")["config"]
        arm = identify(config)
        log = read_csv(folder / "log.csv").astype(float)
        if arm is None or log.empty:
            return None
        if log.epoch.tolist() != list(range(1, len(log) + 1)):
            raise ValueError("its log is not one row an epoch")
        about = {**{key: config.get(key) for key in RUN}, "arm": arm.name, "group": arm.group}
        calibrated = _test_errors(folder / "calibrated.csv", "calibrated").iloc[:HORIZON]
        if len(calibrated) < min(len(log), HORIZON):
            calibrated = calibrated.iloc[:0]
        finished = _test_errors(folder / "results.csv", "finished")
        epochs = log[LOGGED].assign(**about, folder=folder, length=len(log))
        epochs = epochs.merge(calibrated, how="left").merge(finished, how="left")
        epochs.calibrated = epochs.calibrated.fillna(epochs.finished)
        gates = _NO_GATES
        if (folder / "gates.csv").exists():
            gates = read_csv(folder / "gates.csv").astype(float).assign(**about)
        return _with_gates(epochs, gates), gates[gates.epoch <= len(log)], _NO_GATES
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder} holds no readable run: {error}") from error


def _test_errors(path: Path, name: str) -> pd.DataFrame:
    """The test errors of a log that not every run has, by epoch."""
    columns = ["epoch", "test_error"]
    table = read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    return table[columns].astype(float).rename(columns={"test_error": name})


def _with_gates(epochs: pd.DataFrame, gates: pd.DataFrame) -> pd.DataFrame:
    """Adds what claims say of the gates."""
    if gates.empty:
        return epochs.assign(between=math.nan, active=math.nan)
    between = gates[gates.module == 1].set_index("epoch")[bins(gates)[1:-1]].sum(axis=1)
    opened = (gates.ever_open * gates.channels).groupby(gates.epoch).sum()
    active = opened / gates.groupby("epoch").channels.sum()
    of_gates = pd.DataFrame({"between": 100 * between, "active": 100 * active})
    return epochs.join(of_gates, "epoch")


def bins(gates: pd.DataFrame) -> list[str]:
    """The names of the histograms' columns."""
    return [name for name in gates if name.startswith("bin_")]


def _check(epochs: pd.DataFrame) -> None:
    """Runs of one arm on one data set differ in nothing but their seeds."""
    for _, runs in epochs[epochs.epoch == 1].groupby(["dataset", "arm"]):
        names = " and ".join(map(str, runs.folder))
        for key in ("learning_rate", "width"):
            if len(values := runs[key].unique()) > 1:
                raise UserError(
                    f"{names} are runs of one arm with --{key.replace('_', '-')} "
                    f"{' and '.join(map(str, values))}: report on those of one of them"
                )
        if runs.seed.duplicated().any():
            raise UserError(f"of {names}, two are the same arm and seed")


def measure(epochs: pd.DataFrame, how: str, column: str, at: float) -> pd.Series:
    """What is found in each of an arm's runs, by seed; those that do not say it are left out.

    Args:
        epochs: Of the arm's runs.
        how: mean: the mean of the epochs 1 to `at`. reach: the first of two epochs in a row that
            are at or below `at`, interpolated linearly from the epoch before; infinite where there
            is none. Anything else: the value after the epoch `at`.
        column: Of the epochs.
        at: An epoch or a value.
    """
    epochs = epochs.dropna(subset=column)
    if how == "reach":
        whole = epochs.groupby("seed").epoch.transform("max") == epochs.groupby(
            "seed"
        ).epoch.transform("size")  # not those that were logged now and then
        by_seed = epochs[whole].groupby("seed")[column]
        return pd.Series({seed: _reached(run.to_numpy(), at) for seed, run in by_seed}, dtype=float)
    if how == "mean":
        first = epochs[epochs.epoch <= at].groupby("seed")[column]
        return first.mean()[first.size() == at]
    return epochs[epochs.epoch == at].set_index("seed")[column].astype(float)


def _reached(values: np.ndarray, at: float) -> float:
    below = values <= at
    twice = below[:-1] & below[1:]
    first = int(twice.argmax()) if twice.any() else -1
    if first <= 0:
        return math.inf if first else 1
    return first + 1 - (at - values[first]) / (values[first - 1] - values[first])
