"""Measures what a pretrained body is worth with few pictures: `python -m training.finetuning`.

Two tasks, each with 50, 100 and 500 training images of a class and three seeds, which draw the
images too:

svhn    house numbers (subset of SVHN), from the network that was pretrained on CIFAR-10
held    three classes of CIFAR-10, from a network that was trained on the other seven

Every network is trained for the same number of epochs: from new weights ("scratch"), from the body
of the pretrained one ("finetune"), or with that body held as it is for the first tenth ("freeze").
What is done is skipped, so that the same command goes on after any interruption.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from larq_seresnet.files import write_atomically
from training import flags
from training.command import ending
from training.experiments.records import write_csv
from training.flags import flag
from training.tables import markdown
from training.trainer import data, fit
from training.trainer.config import Config

HELD = ("bird", "dog", "ship")  # of CIFAR-10, for which the body never saw an image
WAYS = ("scratch", "finetune", "freeze")
CURVE_IMAGES = 500  # on which a run is evaluated after each epoch


@dataclass(frozen=True)
class FinetuningConfig:
    """What `python -m training.finetuning` is told; each field is a flag."""

    images: tuple[int, ...] = flag((50, 100, 500), "training images of each class")
    seeds: int = flag(3, "runs of each")
    epochs: int = flag(20, "of each run")
    body_epochs: int = flag(20, "of the network that learns seven classes of CIFAR-10")
    batch_size: int = flag(32, "images in a step")
    learning_rate: float = flag(5e-3, "the highest of the one-cycle schedule")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    runs: Path = flag(Path("runs/finetuning"), "folder of the runs, with their checkpoints")
    results: Path = flag(Path("training/results/finetuning"), "folder of the results, to keep")

    def __post_init__(self) -> None:
        flags.require_positive(self, "images", "seeds", "epochs", "body_epochs", "batch_size")


def work(config: FinetuningConfig) -> None:
    """Train what is not trained, and write the tables.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it can be resumed.
    """
    tf.get_logger().setLevel("ERROR")  # that a new network is traced anew is no news
    config.results.mkdir(parents=True, exist_ok=True)
    cifar10, svhn = (data.load(name, config.data_dir) for name in ("cifar10", "svhn_cropped"))
    others = tuple(label for label in cifar10.source.labels if label not in HELD)
    body = Config(fmb=True, epochs=config.body_epochs, out=config.runs / "body", **_common(config))
    fit.fit(body, only(cifar10, others))
    tasks = {
        "held": (only(cifar10, HELD), "cifar10", str(config.runs / "body")),
        "svhn": (svhn, "svhn_cropped", "cifar10"),
    }
    rows = []
    for images, seed, (task, (dataset, name, source)), way in itertools.product(
        config.images, range(config.seeds), tasks.items(), WAYS
    ):
        run = Config(
            fmb=True,
            dataset=name,
            epochs=config.epochs,
            seed=seed,
            start_from=None if way == "scratch" else source,
            freeze_body=max(1, config.epochs // 10) if way == "freeze" else 0,
            out=config.runs / f"{task}_{images}_{way}_seed{seed}",
            **_common(config),
        )
        print(f"\n{run.folder.name}", flush=True)
        fit.fit(run, few(dataset, images, seed))
        model = tf.keras.models.load_model(run.folder / "model.keras", compile=False)
        errors, _ = fit.evaluate(model, dataset)
        rows.append({"task": task, "images": images, "way": way, "seed": seed, **errors})
        write_csv(config.results / "runs.csv", pd.DataFrame(rows))
        tf.keras.backend.clear_session()
    text = table(pd.DataFrame(rows), config)
    write_atomically(config.results / "README.md", text.encode())


def _common(config: FinetuningConfig) -> dict[str, Any]:
    same = ("batch_size", "learning_rate", "data_dir")
    return {name: getattr(config, name) for name in same}


def only(dataset: data.Data, labels: Sequence[str]) -> data.Data:
    """The images of some classes alone."""
    numbers = [dataset.source.labels.index(label) for label in labels]

    def part(split: data.Split) -> data.Split:
        images, targets = split
        kept = np.isin(targets, numbers)
        return images[kept], np.searchsorted(np.sort(numbers), targets[kept])

    ordered = tuple(dataset.source.labels[number] for number in sorted(numbers))
    return replace(
        dataset,
        source=replace(dataset.source, labels=ordered),
        train=part(dataset.train),
        validation=part(dataset.validation),
        test=part(dataset.test),
    )


def few(dataset: data.Data, images: int, seed: int) -> data.Data:
    """So many training images of each class, drawn by the seed, and few to draw curves from."""
    pixels, targets = dataset.train
    random = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            random.choice(np.flatnonzero(targets == number), images, replace=False)
            for number in range(len(dataset.source.labels))
        ]
    )
    return replace(
        dataset,
        train=(pixels[chosen], targets[chosen]),
        validation=data.first(dataset.validation, CURVE_IMAGES),
        test=data.first(dataset.test, CURVE_IMAGES),
    )


def table(rows: pd.DataFrame, config: FinetuningConfig) -> str:
    """Top-1 errors on the test split, by task, number of images and way."""
    titles = {
        "svhn": "house numbers (SVHN subset), from CIFAR-10",
        "held": f"{', '.join(HELD)} of CIFAR-10, from its other classes",
    }
    lines = []
    for (task, images), group in rows.groupby(["task", "images"], sort=False):
        errors = [group[group.way == way].test_error for way in WAYS]
        cells = [f"{values.mean():.1f} ± {values.std():.1f}" for values in errors]
        gains = errors[0].to_numpy() - errors[1].to_numpy()
        lines.append(
            (titles[str(task)], images, *cells, f"{gains.mean():+.1f} ± {gains.std(ddof=1):.1f}")
        )
    header = ("task", "images a class", "new weights", "fine-tuned", "body frozen first", "gain")
    return f"""# What a pretrained body is worth

Top-1 error on the test split in percent, mean ± standard deviation of {config.seeds} seeds;
{config.epochs} epochs each, 1-bit weights with FMB, width 16, batches of {config.batch_size}. Gain:
of fine-tuning over new weights, in points, paired by seed. Written by
`python -m training.finetuning`; every run is a row of `runs.csv`.

{markdown(header, lines)}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(FinetuningConfig, "python -m training.finetuning", __doc__, arguments)
    with ending("training.finetuning", "the same command goes on where it was"):
        work(config)
    print(f"done: {config.results / 'README.md'}")
