"""Compares gates, FMB, its gradient and learning rates on the validation split: a grid search.

Every group (without FMB, FMB by gradient, float32) gets the same learning rates, epochs and seed.
Each trial is a run folder of `training.fit`; the same command goes on after any interruption. With
keras-tuner's environment variables (KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP,
KERASTUNER_ORACLE_PORT) several processes or machines that share --out work on one sweep.
"""

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from larq_seresnet.files import write_atomically
from training import UserError, flags
from training.command import ending
from training.experiments.arms import COMMON, GROUPS
from training.experiments.jobs import Jobs
from training.flags import flag
from training.trainer.config import Config
from training.trainer.run_folder import read_rows


@dataclass(frozen=True)
class SweepConfig:
    """What `python -m training.sweep` is told; each field is a flag.

    Raises:
        ValueError: A value is out of its range.
    """

    gates: tuple[Literal["sigmoid", "tanh", "hard_tanh"], ...] = flag(
        ("sigmoid", "tanh", "hard_tanh"), "activations of the channel attention"
    )
    groups: tuple[Literal["without", "ste", "cut", "float32"], ...] = flag(
        ("without", "ste", "cut"),
        "without FMB, FMB with a straight-through or no gradient, the float32 network",
    )
    learning_rates: tuple[float, ...] = flag(
        (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2), "constant learning rates"
    )
    widths: tuple[int, ...] = flag((16,), "channels of the first stage")
    reductions: tuple[int, ...] = flag((1,), "reduction ratios of squeeze-and-excitation")
    dataset: Literal["cifar10", "svhn_cropped", "digits"] = flag(
        "cifar10", "digits needs no download"
    )
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    epochs: int = flag(4, "of each trial; its error is the mean over the later half of them")
    seed: int = flag(100, "of the trials; not one of the experiments' seeds")
    jobs: int = flag(1, "trials that train at once, each on its share of the cores")
    out: Path = flag(Path("runs/sweep"), "the sweep's folder")

    def __post_init__(self) -> None:
        for values in self.combinations():
            self.run(values)  # whatever is wrong with it, `Config` says

    def combinations(self) -> list[dict[str, Any]]:
        """The grid, in the order in which it is searched."""
        names = ("width", "reduction", "gate", "group", "learning_rate")
        values = (self.widths, self.reductions, self.gates, self.groups, self.learning_rates)
        return [dict(zip(names, choice, strict=True)) for choice in itertools.product(*values)]

    def run(self, values: dict[str, Any]) -> Config:
        """A trial's run."""
        settings = {key: value for key, value in values.items() if key != "group"}
        folder = "_".join(f"{key.replace('_', '-')}-{value}" for key, value in values.items())
        return Config(
            **{**COMMON, **GROUPS[values["group"]], **settings},
            dataset=self.dataset,
            data_dir=self.data_dir,
            epochs=self.epochs,
            seed=self.seed,
            out=self.out / "trials" / folder,
        )


Trial = dict[str, Any]


def sweep(config: SweepConfig) -> list[Trial]:
    """Train every combination that is not yet trained, and write the results.

    Returns:
        The combinations with their validation error, the best first; none in a worker.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the sweep can be resumed.
    """
    from training.experiments import keras_tuner, sweep_report

    jobs = Jobs(config.jobs)
    _agree(config)
    combinations = config.combinations()

    def measure(values: dict[str, Any]) -> float:
        number = combinations.index(values) + 1
        shown = ", ".join(f"{key} {value}" for key, value in values.items())
        print(f"trial {number} of {len(combinations)}: {shown}", flush=True)
        run = config.run(values)
        if not (run.folder / "results.json").exists():
            jobs.train(run)
        error = late_error(run.folder)
        print(f"trial {number} of {len(combinations)}: error {error:.2f} %", flush=True)
        return error

    if not keras_tuner.is_shared():
        jobs.work([partial(measure, values) for values in combinations])
    found = keras_tuner.search(combinations, measure, config.out)
    trials = [{**values, "error": error} for values, error in found]
    trials.sort(key=lambda trial: trial["error"])
    if trials:
        sweep_report.write(trials, config.out, _budget(config))
    return trials


def late_error(folder: Path) -> float:
    """The mean validation error over the later half of a run's epochs, in percent.

    The mean, since the error of a 1-bit network jumps from epoch to epoch.
    """
    errors = [row["validation_error"] for row in read_rows(folder / "log.csv")]
    late = errors[len(errors) // 2 :]
    return sum(late) / len(late)


def best_rates(trials: Sequence[Trial]) -> dict[str, float]:
    """Each group's learning rate with the lowest error, over all its other settings."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial["error"]):
        best.setdefault(trial["group"], trial)
    return {group: trial["learning_rate"] for group, trial in best.items()}


def read_trials(path: Path) -> list[Trial]:
    """The table that a sweep wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        with path.open() as file:
            return [
                {**row, "learning_rate": float(row["learning_rate"]), "error": float(row["error"])}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no table of a sweep: {error}") from error


def _budget(config: SweepConfig) -> str:
    return (
        f"{config.dataset}, {len(config.learning_rates)} learning rates for each, "
        f"{config.epochs} epochs a trial, seed {config.seed}"
    )


def _agree(config: SweepConfig) -> None:
    """Make the folder, or check that it is of the same sweep."""
    content = asdict(config)
    for name in ("out", "data_dir", "jobs"):
        del content[name]
    content = json.loads(json.dumps(content))
    file = config.out / "sweep.json"
    try:
        if file.exists():
            found = json.loads(file.read_text())
            for key, value in content.items():
                if found.get(key) != value:
                    raise UserError(
                        f"--out {config.out} holds a sweep with --{key.replace('_', '-')} "
                        f"{found.get(key)}, not {value}: take another folder, or the same flags"
                    )
            return
        config.out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{json.dumps(content, indent=2)}\n".encode())
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"--out {config.out} is no folder for a sweep: {error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(SweepConfig, "python -m training.sweep", __doc__, arguments)
    with ending("training.sweep", f"the same command goes on, in {config.out}"):
        trials = sweep(config)
    if not trials:
        print("done: the chief has the results")
        return
    for group, rate in best_rates(trials).items():
        print(f"best learning rate of group {group}: {rate:g}")
    print(f"done: {config.out / 'sweep.md'}, sweep.csv and sweep.png")


if __name__ == "__main__":
    main()
