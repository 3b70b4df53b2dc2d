"""Measures how fast training is, beside other ways to train the same network.

    python -m training.benchmark --json FILE

The variants, each in a process of its own that waits while the others work, take turns:

fit                            `python -m training.fit` with all that it does, in its own precision
plain                          Keras's `model.fit` in float32, images augmented one by one
plain-onednn                   the same with oneDNN, which TensorFlow leaves off on many CPUs
torch-float32, torch-bfloat16  the same network in PyTorch, where that is installed
fit-input, plain-input         the input pipelines alone

With `LARQ_SERESNET_CPU=avx2` all variants do with AVX2.
Ratios are medians of the ratios within a round. An epoch is one of the whole data set: its training
steps, the evaluation after it and whatever else it takes, from the rates that were measured.
"""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from larq_seresnet.files import write_atomically
from training import UserError, flags, processor
from training.benchmark import machine, report
from training.benchmark.turns import WARM_UP_STEPS, Task, Worker, clock
from training.command import ending
from training.flags import flag
from training.trainer import data, fit
from training.trainer.config import Config

Name = Literal[
    "fit", "plain", "plain-onednn", "torch-float32", "torch-bfloat16", "fit-input", "plain-input"
]


@dataclass(frozen=True)
class BenchmarkConfig:
    """What `python -m training.benchmark` is told; each field is a flag.

    Raises:
        ValueError: A value is out of its range.
    """

    variants: tuple[Name, ...] = flag(
        get_args(Name),
        "what to measure: this project's fit, Keras's in float32 on images augmented one by one, "
        "PyTorch, and input pipelines alone",
    )
    widths: tuple[int, ...] = flag((16, 64), "of the network")
    activations: tuple[Literal["float", "binary"], ...] = flag(
        ("float", "binary"), "float: 1-bit weights only; binary: the fully binary network"
    )
    batch_size: int = flag(128, "images in a step")
    rounds: int = flag(7, "turns of each variant")
    steps: int = flag(40, "training steps in a turn at width 16, fewer for wider networks")
    dataset: str = flag("cifar10", "as for training.fit; digits needs no download")
    size: str | None = flag(None, "as for training.fit: of the images, N or HxW")
    cache_dir: str | None = flag(None, "as for training.fit: where decoded pictures lie")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    json: Path | None = flag(None, "file for every number that was measured")

    def __post_init__(self) -> None:
        flags.require_positive(self, "batch_size", "rounds", "steps", "widths")
        if self.json and not self.json.parent.is_dir():
            raise ValueError(f"--json must be a file in a folder that exists, not {self.json}")


def benchmark(config: BenchmarkConfig) -> tuple[list[report.Series], data.Data]:
    """Measure all variants, width by width.

    Returns:
        What was measured, and the whole data set.

    Raises:
        UserError: The data set is missing or too small, or a variant failed.
    """
    named = Config(
        dataset=config.dataset,
        data_dir=config.data_dir,
        size=config.size,
        cache_dir=config.cache_dir,
    )
    dataset = fit.load_data(named)
    series = []
    with tempfile.TemporaryDirectory() as folder:
        for width in config.widths:
            tasks = _tasks(config, width, dataset, Path(folder))
            series += take_turns(tasks)
    return series, dataset


def _tasks(config: BenchmarkConfig, width: int, dataset: data.Data, folder: Path) -> list[Task]:
    steps = max(4, config.steps * 16 // width)
    images = (WARM_UP_STEPS + steps) * config.batch_size
    if images > len(dataset.train[1]):
        raise UserError(
            f"{images} images for {WARM_UP_STEPS} + {steps} steps are more than the "
            f"{len(dataset.train[1])} training images of {config.dataset}: "
            "lower --steps or --batch-size"
        )
    share = images / len(dataset.train[1])  # the splits keep their proportions
    train, validation, test = (
        data.first((pixels, labels), round(share * len(pixels)))
        for pixels, labels in (dataset.train, dataset.validation, dataset.test)
    )
    part = data.Data(dataset.source, train, validation, test)
    return [
        Task(name, width, activations, config.batch_size, steps, config.rounds, part, folder)
        for activations in config.activations
        for name in config.variants
        # Input pipelines are the same for every network.
        if not name.endswith("-input") or activations == config.activations[0]
    ]


def take_turns(tasks: Sequence[Task]) -> list[report.Series]:
    """Start a worker for each task, one after the other, and let them take turns.

    Raises:
        UserError: A variant failed.
    """
    series = []
    rounds = tasks[0].rounds
    with ExitStack() as stack:
        workers: list[Worker] = []
        for task in tasks:
            _say(f"width {task.width}, {task.activations}: starting {task.variant}")
            worker = Worker(task)
            stack.callback(worker.close)
            workers.append(worker)
            start = clock()
            worker.take_turn()
            series.append(
                report.Series(task.variant, task.width, task.activations, clock() - start)
            )
        for number in range(rounds):
            _say(f"width {tasks[0].width}: round {number + 1} of {rounds}")
            for worker, one in zip(workers, series, strict=True):
                start, used = clock(), [other.cpu_seconds() for other in workers]
                one.turns.append(worker.take_turn())
                seconds = clock() - start
                others = sum(
                    other.cpu_seconds() - before
                    for other, before in zip(workers, used, strict=True)
                    if other is not worker
                )
                one.waiting_cpu.append(others / seconds)
    return series


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    summary = __doc__.splitlines()[0]
    config = flags.parse(BenchmarkConfig, "python -m training.benchmark", summary, arguments)
    if importlib.util.find_spec("torch") is None:
        left = tuple(name for name in config.variants if not name.startswith("torch"))
        if left != config.variants:
            _say("PyTorch is not installed (pip install '.[dev]'): its variants are left out")
        if not left:
            sys.exit("training.benchmark: error: nothing is left to measure")
        config = replace(config, variants=left)
    if processor.onednn_by_default():  # then it is what "plain" measures
        left = tuple(name for name in config.variants if name != "plain-onednn")
        config = replace(config, variants=left or config.variants)
    description = machine.describe()  # with the load before the measurement adds to it
    with ending("training.benchmark", "nothing was written"):
        series, dataset = benchmark(config)
        evaluated = len(dataset.validation[1]) + len(dataset.test[1])
        rows = report.summarize(series, len(dataset.train[1]), evaluated)
        print(report.table(rows))
        if config.json:
            told = {k: v for k, v in asdict(config).items() if k not in ("json", "data_dir")}
            measured = [asdict(one) for one in series]
            content = {"machine": description, "config": told, "summary": rows, "series": measured}
            text = json.dumps(content, indent=1, default=str)
            write_atomically(config.json, f"{text}\n".encode())


if __name__ == "__main__":
    main()
