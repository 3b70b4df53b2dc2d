"""Compares gates, FMB, its gradient and learning rates on the validation split, with keras-tuner.

A grid by default: every group (without FMB, FMB by gradient, float32) gets the same learning rates,
epochs and seed. The other searches take rates between the lowest and the highest. Each trial is a
run folder of `training.fit`; the same command goes on after any interruption. With keras-tuner's
environment variables (KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT) several
processes or machines that share --out work on one sweep.
"""

import csv
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from larq_seresnet.files import write_atomically
from training import UserError, flags
from training.command import ending
from training.experiments.arms import COMMON, GROUPS
from training.experiments.jobs import Jobs
from training.experiments.plan import read_log
from training.flags import flag
from training.tables import markdown
from training.trainer.config import Config

SCALED = ("width", "reduction", "gate", "group", "learning_rate")
"""What is searched over, in the order of the grid."""

Trial = dict[str, Any]


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
    search: Literal["grid", "random", "hyperband", "bayesian"] = flag(
        "grid", "how: every combination, or as keras-tuner's oracle of that name"
    )
    trials: int = flag(20, "of random and bayesian searches")
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
        if self.trials < 1:
            raise ValueError(f"--trials must be at least 1, not {self.trials}")
        for values in itertools.product(*self.choices.values()):
            self.run(dict(zip(SCALED, values, strict=True)))  # what is wrong with it, `Config` says

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The values of each hyperparameter."""
        values = (self.widths, self.reductions, self.gates, self.groups, self.learning_rates)
        return dict(zip(SCALED, values, strict=True))

    def run(self, values: Trial, epochs: int | None = None) -> Config:
        """A trial's run."""
        settings = {key: value for key, value in values.items() if key != "group"}
        folder = "_".join(f"{key.replace('_', '-')}-{value}" for key, value in values.items())
        return Config(
            **{**COMMON, **GROUPS[values["group"]], **settings},
            dataset=self.dataset,
            data_dir=self.data_dir,
            epochs=epochs or self.epochs,
            seed=self.seed,
            out=self.out / "trials" / folder,
        )


def sweep(config: SweepConfig) -> list[Trial]:
    """Search, train every trial that is not yet trained, and write the results.

    Returns:
        The trials with their validation error, the best first; none in a worker.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the sweep can be resumed.
    """
    from training.experiments import keras_tuner

    jobs = Jobs(config.jobs)
    _agree(config)

    def measure(proposed: Trial) -> float:
        values = _values(proposed)
        shown = ", ".join(f"{key} {value}" for key, value in values.items())
        run = config.run(values, proposed.get("tuner/epochs"))
        print(f"trial: {shown}, {run.epochs} epochs", flush=True)
        if len(read_log(run.folder)) < run.epochs or not (run.folder / "results.json").exists():
            jobs.train(run)
        error = late_error(run.folder, run.epochs)
        print(f"trial: {shown}: error {error:.2f} %", flush=True)
        return error

    tuner = keras_tuner.Tuner(_oracle(config), measure, config.out, jobs)
    trials = [{**_values(proposed), "error": error} for proposed, error in tuner.results()]
    trials.sort(key=lambda trial: trial["error"])
    if trials:
        write(trials, config)
    return trials


def _oracle(config: SweepConfig) -> Any:
    """keras-tuner's, over the configuration's choices."""
    from training.experiments.keras_tuner import Grid, kt

    space = kt.HyperParameters()
    for name, values in config.choices.items():
        if name == "learning_rate" and config.search != "grid":
            space.Float(name, min(values), max(values), sampling="log")
        else:  # as text: on the way from a chief, floats are rounded to 32 bits
            space.Choice(name, list(dict.fromkeys(map(str, values))))
    settings = {
        "objective": kt.Objective("error", "min"),
        "hyperparameters": space,
        "tune_new_entries": False,
        "allow_new_entries": False,
    }
    if config.search == "grid":
        return Grid(**settings)
    settings["seed"] = config.seed
    if config.search == "hyperband":
        return kt.oracles.HyperbandOracle(max_epochs=config.epochs, **settings)
    oracles = {
        "random": kt.oracles.RandomSearchOracle,
        "bayesian": kt.oracles.BayesianOptimizationOracle,
    }
    return oracles[config.search](max_trials=config.trials, **settings)


def _values(proposed: Trial) -> Trial:
    """Of what an oracle proposed, the hyperparameters; sampled rates in 3 digits."""
    kinds: dict[str, Any] = {
        "width": int,
        "reduction": int,
        "learning_rate": lambda x: float(f"{float(x):.3g}"),
    }
    return {name: kinds.get(name, str)(proposed[name]) for name in SCALED}


def late_error(folder: Path, epochs: int | None = None) -> float:
    """The mean validation error over the later half of a run's first epochs, in percent.

    The mean, since the error of a 1-bit network jumps from epoch to epoch.
    """
    errors = [row["validation_error"] for row in read_log(folder)][:epochs]
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


def write(trials: Sequence[Trial], config: SweepConfig) -> None:
    """Write `sweep.csv`, `sweep.md` and `sweep.png`; the trials are sorted, the best first."""
    table = pd.DataFrame(trials)
    names = [name for name in SCALED if name != "learning_rate"]
    best = ~table.duplicated(names)  # of each series over the learning rates
    shown = table.error.map("{:.2f}".format).where(~best, table.error.map("**{:.2f}**".format))
    text = (
        f"{config.dataset}, {config.search} search of {len(trials)} trials, {config.epochs} epochs "
        f"a trial, seed {config.seed}; error: top-1 on the validation split, mean over the later "
        "half of the epochs.\n\n"
    )
    text += markdown([*SCALED, "error (%):"], table.assign(error=shown).to_numpy()) + "\n"
    picture = io.BytesIO()
    draw(table).savefig(picture, dpi=120)
    write_atomically(config.out / "sweep.csv", table.to_csv(index=False).encode())
    write_atomically(config.out / "sweep.md", text.encode())
    write_atomically(config.out / "sweep.png", picture.getvalue())


def draw(trials: pd.DataFrame) -> Any:
    """Validation errors over the learning rate, a line for each other combination."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    varied = [n for n in trials.columns[:-2] if trials[n].nunique() > 1]
    series = trials.groupby(varied) if varied else [((), trials)]
    for key, points in series:
        label = ", ".join(map(" ".join, zip(varied, map(str, key), strict=True))) or "all"
        points.sort_values("learning_rate").plot(
            "learning_rate", "error", ax=axes, marker="o", label=label
        )
    axes.set(xscale="log", xlabel="learning rate", ylabel="top-1 error, validation (%)")
    rates = sorted(trials.learning_rate.unique())
    if len(rates) < 10:
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    plt.close(figure)
    return figure


def _agree(config: SweepConfig) -> None:
    """Make the folder, or check that it is of the same sweep."""
    content = json.loads(json.dumps(asdict(config), default=str))
    for name in ("out", "data_dir", "jobs"):
        del content[name]
    file = config.out / "sweep.json"
    try:
        if file.exists():
            found = {"search": "grid", "trials": 20, **json.loads(file.read_text())}
            for key, value in content.items():
                if found.get(key) != value:
                    raise UserError(
                        f"--out {config.out} holds a sweep with --{key.replace('_', '-')} "
                        f"{found.get(key)}, not {value}: take another folder, or the same flags"
                    )
            return
        config.out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{json.dumps(content, indent=2)}\n".encode())
    except UserError:
        raise
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
