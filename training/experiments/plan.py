"""Which runs the experiments consist of, in their order, and what of them is done."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from training import UserError
from training.experiments.arms import ARMS, Arm
from training.experiments.records import read_json
from training.trainer.config import Config
from training.trainer.run_folder import Row, read_rows

Stage = Literal["curves", "table-iii", "long", "svhn", "scale", "sgd"]

DATASETS = {"cifar10": "CIFAR-10", "svhn_cropped": "SVHN subset (8,886 / 7,136)"}
"""The experiments' data sets as text names them: of SVHN a part, training and test images."""

HORIZON = 30  # epochs, of Table III
SEEDS = range(3)
MORE_SEEDS = range(3, 5)  # of the pair that the papers are about

RECORDED = ("config.json", "log.csv", "gates.csv", "calibrated.csv", "results.csv", "results.json")


@dataclass(frozen=True)
class Step:
    """One run, or the next part of it.

    Attributes:
        arm: Which configuration.
        seed: Of the run.
        epochs: How far the run goes in this step; a later one may take it farther.
        dataset: Which data set.
    """

    arm: Arm
    seed: int
    epochs: int
    dataset: str = "cifar10"

    @property
    def name(self) -> str:
        """The run's folder, which is the same for every length."""
        return f"{self.dataset}_{self.arm.name}_seed{self.seed}"

    @property
    def calibrated_log(self) -> bool:
        """Whether to log epochs with batch norm calibrated too: where verdicts need the curve."""
        return self.dataset == "cifar10" and self.epochs <= HORIZON


STAGES: Sequence[Stage] = get_args(Stage)


def steps(stages: Sequence[Stage]) -> list[Step]:
    """The steps of some stages, in the order in which they are to be taken.

    curves: 10 epochs of the arms of Tables I and II, and the controls; 3 seeds, of sigmoid without
        and with FMB 5
    table-iii: 30 epochs of sigmoid without and with FMB, 2 seeds, and of float32; 12 epochs of the
        pair's other seeds, until they are below 30 % error with batch norm calibrated
    long: 100 epochs of sigmoid without and with FMB, 1 seed (Fig. 10)
    svhn: sigmoid without and with FMB on the SVHN subset, 3 seeds
    scale: 10 epochs of sigmoid with a scaled pre-activation, without and with FMB, 3 seeds
    sgd: 10 epochs of sigmoid without and with FMB by SGD, 3 seeds
    """
    main = ["sigmoid", "sigmoid_fmb", "sigmoid_cut", "tanh", "tanh_fmb", "hard_tanh"]
    main += ["hard_tanh_fmb", "float32", "no_se", "frozen_fmb"]
    pair = ("sigmoid", "sigmoid_fmb")
    scaled = ("sigmoid_scale", "sigmoid_scale_fmb")
    parts: dict[Stage, list[Step]] = {
        "curves": [*_steps(main, SEEDS, 10), *_steps(pair, MORE_SEEDS, 10)],
        "table-iii": [
            *_steps(pair, range(2), HORIZON),
            *_steps(["float32"], range(1), HORIZON),
            *_steps(pair, range(2, 5), 12),
        ],
        "long": _steps(pair, range(1), 100),
        "svhn": _steps(pair, SEEDS, 60, "svhn_cropped"),
        "scale": _steps(scaled, SEEDS, 10),
        "sgd": _steps(("sgd", "sgd_fmb"), SEEDS, 10),
    }
    return [step for stage, part in parts.items() if stage in stages for step in part]


def _steps(
    names: Sequence[str], seeds: Iterable[int], epochs: int, dataset: str = "cifar10"
) -> list[Step]:
    """Seed by seed, so that every arm has its first run early."""
    return [Step(ARMS[name], seed, epochs, dataset) for seed in seeds for name in names]


def finished(folder: Path, config: Config) -> bool:
    """Whether the folder holds the run, at least that long.

    Raises:
        UserError: It holds another run, or is damaged.
    """
    if not (folder / "log.csv").exists():
        return False
    try:
        found = json.loads((folder / "config.json").read_text())["config"]
        epochs = read_rows(folder / "log.csv")[-1]["epoch"]
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{folder} holds no readable run ({error}): delete it") from error
    wanted = config.decisive()
    free = ("precision", "kernels", *(["epochs"] if config.schedule == "constant" else []))
    for key, value in {**Config().decisive(), **found}.items():
        if key not in free and wanted.get(key) != value:
            flag = key.replace("_", "-")
            raise UserError(
                f"{folder} holds a run with --{flag} {value}, not {wanted.get(key)}: "
                "move it away, or go back to what it was made with"
            )
    # A run that is on its way to more epochs has been to this one.
    done = (folder / "results.json").exists()
    return epochs > config.epochs or (epochs == config.epochs and done)


def read_log(folder: Path) -> list[Row]:
    """The epochs that the run in the folder has behind it.

    Raises:
        UserError: Its log is damaged.
    """
    log = folder / "log.csv"
    try:
        return read_rows(log) if log.exists() else []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{log} is damaged ({error}): delete {folder}") from error


def seconds_per_epoch(folders: Iterable[Path]) -> dict[Any, float]:
    """Median training time by (data set, model), from the logs of the runs there are."""
    seconds: dict[Any, list[float]] = {}
    for folder in folders:
        if (log := read_log(folder)) and (folder / "config.json").exists():
            config = read_json(folder / "config.json")["config"]
            times = [row["seconds"] for row in log]
            seconds.setdefault((config["dataset"], config["model"]), []).extend(times)
    return {key: statistics.median(times) for key, times in seconds.items()}
