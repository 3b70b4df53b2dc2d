"""Measures where networks look, with and without FMB: `python -m training.position`.

Trains networks on digits that are pasted at random places on textured backgrounds, gate by gate,
and scores the EigenCAM heat maps of the test images by where they lie:

pointing   share of the images whose hottest pixel is inside the digit's box (pointing game)
energy     share of the heat, negative heat left out, that is inside the box

Chance is the box's share of the image for the energy and a random pixel; a network that always
looks at the middle is hit by `centre_pointing`. With 1-bit weights and without the attention's
scale, tanh gates learn nothing here: all have it. What is done is skipped, so that the same command
goes on after any interruption. `python -m training.report` makes a section of the results.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from larq_seresnet import sources
from larq_seresnet.eigencam import eigencam
from larq_seresnet.eigencam.overlay import overlay, upsample
from larq_seresnet.files import write_atomically
from larq_seresnet.models import to_float32
from training import UserError, flags
from training.command import ending
from training.experiments import plan
from training.experiments.records import read_json, write_csv, write_json
from training.flags import flag
from training.pictures import png
from training.trainer import data, fit, pasted
from training.trainer.config import Config

EXAMPLES = 6


@dataclass(frozen=True)
class PositionConfig:
    """What `python -m training.position` is told; each field is a flag."""

    dataset: Literal["pasted_digits", "pasted_svhn"] = flag(
        "pasted_digits", "made from the handwritten digits, or from the house numbers of SVHN"
    )
    gates: tuple[Literal["sigmoid", "tanh", "hard_tanh"], ...] = flag(
        ("sigmoid", "tanh", "hard_tanh"),
        "activations of the channel attention, each without and with FMB",
    )
    seeds: int = flag(3, "runs of each")
    epochs: int = flag(25, "of each run")
    width: int = flag(8, "channels of the first stage")
    fmb_start: int = flag(0, "epochs with soft gates before FMB sets in")
    learning_rate: float = flag(5e-3, "the highest of the one-cycle schedule")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    layer: str = flag("block6_relu2", "whose heat maps")
    runs: Path = flag(Path("runs/position"), "folder of the runs, with their checkpoints")
    results: Path = flag(Path("training/results/position"), "folder of the results, to keep")

    def __post_init__(self) -> None:
        flags.require_positive(self, "seeds")
        self.steps()  # what is wrong with the rest, `Config` says

    def steps(self) -> list[Config]:
        """The runs, seed by seed."""
        same = ("dataset", "data_dir", "width", "epochs", "learning_rate")
        common: dict[str, Any] = {name: getattr(self, name) for name in same}
        common |= {"attention_scale": True, "batch_size": 64}
        runs = []
        for seed, gate, fmb in itertools.product(range(self.seeds), self.gates, (False, True)):
            name = f"{self.dataset}_{gate}_{'fmb' if fmb else 'no-fmb'}_seed{seed}"
            start = self.fmb_start if fmb else 0
            about: dict[str, Any] = {"gate": gate, "fmb": fmb, "fmb_start": start, "seed": seed}
            runs.append(Config(**about, out=self.runs / name, **common))
        return runs


def work(config: PositionConfig) -> None:
    """Train what is not trained, and measure.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it can be resumed.
    """
    tf.get_logger().setLevel("ERROR")  # that a new network is traced anew is no news
    config.results.mkdir(parents=True, exist_ok=True)
    steps, rows = config.steps(), []
    dataset = data.load(config.dataset, config.data_dir)
    for number, step in enumerate(steps, 1):
        print(f"\nrun {number} of {len(steps)}: {step.folder.name}", flush=True)
        rows.append(_row(step, dataset, config.layer))
        print(f"pointing game {rows[-1]['pointing']} %, energy {rows[-1]['energy']} %", flush=True)
        write_csv(config.results / f"{config.dataset}.csv", pd.DataFrame(rows))
        tf.keras.backend.clear_session()
    first = {s.gate + (" + FMB" if s.fmb else ""): s.folder for s in steps if s.seed == 0}
    picture = png(draw_examples(dataset, first, config.layer), dpi=80)
    write_atomically(config.results / f"{config.dataset}.png", picture)


def _row(step: Config, dataset: data.Data, layer: str) -> dict[str, Any]:
    """The scores of a run, which is trained first where it is not."""
    images, boxes = dataset.test[0], dataset.test_boxes
    assert boxes is not None
    file = step.folder / f"position_{layer}.json"
    if not plan.finished(step.folder, step):
        fit.fit(step, dataset)
    elif file.exists():
        return read_json(file)
    results = read_json(step.folder / "results.json")
    pointing, energy = score(heat(step.folder, images, layer), boxes)
    row = {
        **{key: getattr(step, key) for key in ("dataset", "gate", "fmb", "seed")},
        "fmb": int(step.fmb),
        "epochs": step.epochs,
        "fmb_start": step.fmb_start,
        "width": step.width,
        "layer": layer,
        "images": len(images),
        "test_error": results["test_error"],
        "pointing": round(100 * float(pointing.mean()), 2),
        "energy": round(100 * float(energy.mean()), 2),
        **baselines(boxes, pasted.CANVASES[step.dataset]),
    }
    write_json(file, row)
    return row


def heat(run: Path, images: np.ndarray, layer: str) -> np.ndarray:
    """A finished run's heat maps in the images' size, signed, (images, height, width).

    Raises:
        UserError: It cannot be read, or its network has no such layer.
    """
    model = to_float32(sources.load(str(run)).model)
    try:
        return upsample(eigencam(model, images, layer), *images.shape[1:3])
    except ValueError as error:
        raise UserError(f"{run}: {error}") from error


def score(heatmaps: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where heat maps lie, image by image.

    Args:
        heatmaps: (images, height, width).
        boxes: Top, left, bottom and right, (images, 4); the latter two are outside of the box.

    Returns:
        Whether the hottest pixel is in the box, and the share of the positive heat that is.
    """
    rows, columns = np.indices(heatmaps.shape[1:])
    top, left, bottom, right = (edge[:, None, None] for edge in boxes.T)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    hottest = heatmaps.reshape(len(heatmaps), -1).argmax(axis=1)
    pointing = inside.reshape(len(heatmaps), -1)[np.arange(len(heatmaps)), hottest]
    positive = np.maximum(heatmaps, 0)
    total = np.maximum(positive.sum(axis=(1, 2)), np.finfo(np.float32).tiny)
    return pointing, (positive * inside).sum(axis=(1, 2)) / total


def baselines(boxes: np.ndarray, canvas: pasted.Canvas) -> dict[str, float]:
    """What a random pixel, and the image's middle, score in percent."""
    middle = canvas.size / 2
    centred = (boxes[:, :2] <= middle).all(axis=1) & (boxes[:, 2:] > middle).all(axis=1)
    return {
        "chance": round(100 * canvas.chance, 2),
        "centre_pointing": round(100 * float(centred.mean()), 2),
    }


def draw_examples(dataset: data.Data, runs: dict[str, Path], layer: str) -> Figure:
    """Test images with their boxes, and below each the heat maps of the runs."""
    images, size = dataset.test[0][:EXAMPLES], dataset.source.shape[0]
    assert dataset.test_boxes is not None
    figure = Figure(figsize=(1.5 * len(images) + 1, 1.6 * (1 + len(runs))), layout="constrained")
    plots = figure.subplots(1 + len(runs), len(images))
    shown = {"image": list(images)}
    for name, run in runs.items():
        shown[name] = list(map(overlay, images, heat(run, images, layer)))
    for row, (name, pictures) in zip(plots, shown.items(), strict=True):
        for axes, picture, box in zip(row, pictures, dataset.test_boxes, strict=False):
            axes.set(xticks=[], yticks=[])
            axes.imshow(picture, extent=(0, size, size, 0))
            top, left, bottom, right = box
            axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], "w-", lw=1)
        row[0].set_ylabel(name)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(PositionConfig, "python -m training.position", __doc__, arguments)
    with ending("training.position", "the same command goes on where it was"):
        work(config)
    print(f"done: {config.results / config.dataset}.csv; now: python -m training.report")
