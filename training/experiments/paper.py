"""Trains everything that the report needs, one run after the other: `python -m training.paper`.

First each group's learning rate is tuned on the validation split, then come the runs (`plan.py`).
What is done is skipped, and what was cut off is resumed, so that the same command goes on after any
interruption. Finished runs' logs are copied to --results, for `python -m training.report`. `--list`
says what is left.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from larq_seresnet.files import write_atomically
from training import UserError, flags
from training.command import ending
from training.experiments import plan, sweep
from training.experiments.arms import RATES
from training.experiments.jobs import Jobs
from training.experiments.plan import Stage, Step
from training.flags import flag
from training.trainer.config import Config


@dataclass(frozen=True)
class PaperConfig:
    """What `python -m training.paper` is told; each field is a flag."""

    stages: tuple[Stage, ...] = flag(tuple(plan.STAGES), "which parts, always in this order")
    list: bool = flag(False, "only say what is done and what is left")
    jobs: int = flag(1, "runs that train at once, each on its share of the cores")
    runs: Path = flag(Path("runs/paper"), "folder of the runs, with their checkpoints")
    results: Path = flag(Path("training/results/paper"), "folder of the logs, to keep")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )

    @property
    def tuning(self) -> sweep.SweepConfig:
        """The sweep that gives each group its learning rate."""
        return sweep.SweepConfig(
            gates=("sigmoid",),
            groups=("without", "ste", "cut", "float32"),
            data_dir=self.data_dir,
            jobs=self.jobs,
            out=self.runs / "tuning",
        )

    @property
    def tuned(self) -> Path:
        """The table that the tuning leaves."""
        return self.results / "tuning" / "sweep.csv"


def work(config: PaperConfig, steps: Sequence[Step]) -> None:
    """Take every step that is not done.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it can be resumed.
    """
    jobs = Jobs(config.jobs)
    if not config.tuned.exists():
        print("tuning each group's learning rate on the validation split", flush=True)
        sweep.sweep(config.tuning)
        for name in ("sweep.md", "sweep.png", "sweep.csv"):  # the one that counts comes last
            _copy(config.runs / "tuning" / name, config.tuned.parent / name)
    rates = sweep.best_rates(sweep.read_trials(config.tuned))
    locks: dict[str, threading.Lock] = defaultdict(threading.Lock)  # a step may continue another

    def take(number: int, step: Step) -> None:
        run = _run(config, step, rates)
        with locks[step.name]:
            if plan.finished(config.results / step.name, run):
                return
            print(f"\nstep {number} of {len(steps)}: {_describe(step)}", flush=True)
            print(_left(config, steps[number - 1 :]), flush=True)
            if not plan.finished(run.folder, run):
                jobs.train(run)
            _keep(run.folder, config.results / step.name)

    jobs.work([partial(take, number, step) for number, step in enumerate(steps, 1)])


def _run(config: PaperConfig, step: Step, rates: dict[str, float]) -> Config:
    try:
        rate = {**RATES, **rates}[step.arm.group]
    except KeyError as error:
        raise UserError(
            f"{config.tuned} has no learning rate for group {step.arm.group}: delete it, "
            "to tune again"
        ) from error
    run = step.arm.config(
        learning_rate=rate,
        epochs=step.epochs,
        seed=step.seed,
        dataset=step.dataset,
        data_dir=config.data_dir,
        out=config.runs / step.name,
    )
    return replace(run, calibrated_log=step.calibrated_log)


def _keep(run: Path, results: Path) -> None:
    """Copy a finished run's records; the log, by which it counts as done, comes last."""
    (results / "log.csv").unlink(missing_ok=True)
    for name in sorted(plan.RECORDED, key="log.csv".__eq__):
        if (run / name).exists():
            _copy(run / name, results / name)


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
    except OSError as error:
        raise UserError(f"{source} cannot be copied to {target}: {error}") from error


def _describe(step: Step) -> str:
    return f"{step.dataset}, {step.arm.title}, seed {step.seed}, to epoch {step.epochs}"


def _left(config: PaperConfig, steps: Sequence[Step]) -> str:
    """How much is left, from how long the epochs took so far."""
    folders = [*config.runs.glob("*"), *config.runs.glob("tuning/trials/*")]
    seconds = plan.seconds_per_epoch([*folders, *config.results.glob("*")])
    epochs, total, unknown = 0, 0.0, 0
    reached: dict[str, int] = {}
    for step in steps:
        behind = max(
            reached.get(step.name, 0),
            *(len(plan.read_log(f / step.name)) for f in (config.runs, config.results)),
        )
        reached[step.name] = max(behind, step.epochs)
        ahead = reached[step.name] - behind
        model = step.arm.config(learning_rate=1.0, epochs=1).model
        epochs += ahead
        unknown += 0 if (step.dataset, model) in seconds else ahead
        total += ahead * seconds.get((step.dataset, model), 0.0)
    text = f"left: {epochs} epochs in {len(steps)} steps"
    if unknown < epochs:
        text += f", about {total / 3600:.1f} hours of training by the median epoch so far"
        text += f", and {unknown} epochs of what was not measured yet" if unknown else ""
    return text


def overview(config: PaperConfig, steps: Sequence[Step]) -> None:
    """Print what is done and what is left."""
    tuned = config.tuned.exists()
    rates = sweep.best_rates(sweep.read_trials(config.tuned)) if tuned else {}
    shown = ", ".join(f"{group} {rate:g}" for group, rate in rates.items())
    print("done  learning rates:" if tuned else "left  learning rates", shown)
    left = []
    for step in steps:
        if not tuned or not plan.finished(config.results / step.name, _run(config, step, rates)):
            left.append(step)
        print("left" if left and left[-1] is step else "done", "", _describe(step))
    print(_left(config, left) if left else "nothing is left")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(PaperConfig, "python -m training.paper", __doc__, arguments)
    steps = plan.steps(config.stages)
    with ending("training.paper", "the same command goes on where it was"):
        if config.list:
            overview(config, steps)
            return
        work(config, steps)
    print(f"done: every run is in {config.results}; now: python -m training.report")
