"""How a network does on each class: tables and pictures in the run's folder.

classes.csv    pictures, precision, recall and F1 of each class
confusion.csv  how many pictures of each class (row) were taken for which (column); drawn as .png
mistakes.csv   the pictures that were taken for another class, the surest mistakes first; the first
               ones drawn as .png
"""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from larq_seresnet.datasets import Data
from larq_seresnet.edge.errors import printable
from training.trainer.run_folder import RunFolder

_COLUMNS, _ROWS = 6, 4  # of the page of mistakes
_MOST_NUMBERS = 20  # classes whose counts are written into the matrix
_LONGEST = 18  # letters of a name in a picture


def save(folder: RunFolder, probabilities: np.ndarray, dataset: Data) -> None:
    """Write the tables and pictures of the test split.

    Args:
        folder: Of the run.
        probabilities: (images, classes), for the test images.
        dataset: What they are of; its labels are numbers.
    """
    labels = [printable(label) for label in dataset.source.labels]
    images, truth = dataset.test
    found = probabilities.argmax(axis=1)
    numbers = list(range(len(labels)))
    precision, recall, f1, pictures = precision_recall_fscore_support(
        truth, found, labels=numbers, zero_division=0
    )
    columns = {"pictures": pictures, "precision": precision, "recall": recall, "f1": f1}
    classes = pd.DataFrame(columns, index=pd.Index(labels, name="class"))
    folder.save_table("classes.csv", classes.round(4))
    matrix = confusion_matrix(truth, found, labels=numbers)
    counts = pd.DataFrame(matrix, index=pd.Index(labels, name="class"), columns=labels)
    folder.save_table("confusion.csv", counts)
    folder.save_figure("confusion.png", _draw_confusion(matrix, labels))

    wrong = np.flatnonzero(found != truth)
    wrong = wrong[np.argsort(-probabilities[wrong, found[wrong]], kind="stable")]
    names = [printable(name) for name in dataset.test_names] or [str(i) for i in range(len(truth))]
    mistakes = pd.DataFrame(
        {
            "picture": [names[i] for i in wrong],
            "class": [labels[truth[i]] for i in wrong],
            "taken_for": [labels[found[i]] for i in wrong],
            "probability": probabilities[wrong, found[wrong]].round(4),
        }
    )
    folder.save_table("mistakes.csv", mistakes.set_index("picture"))
    if len(wrong):
        shown = mistakes.head(_COLUMNS * _ROWS)
        folder.save_figure("mistakes.png", _draw_mistakes(images[wrong[: len(shown)]], shown))


def _draw_confusion(matrix: np.ndarray, labels: list[str]) -> Any:
    side = min(4 + 0.4 * len(labels), 20)
    figure, axes = plt.subplots(figsize=(side, side), dpi=120, layout="constrained")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count, color=color, ha="center", va="center")
    names = [_short(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation="vertical", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlabel="taken for", ylabel="class", title="pictures of the test split")
    plt.close(figure)
    return figure


def _draw_mistakes(images: np.ndarray, mistakes: pd.DataFrame) -> Any:
    columns = min(_COLUMNS, max(3, len(mistakes)))
    rows = -(-len(mistakes) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(2 * columns, 0.5 + 2.5 * rows), layout="constrained", squeeze=False
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, (_, row) in zip(grid.flat, images, mistakes.iterrows(), strict=False):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(
            f"{_short(row['class'])}\ntaken for {_short(row['taken_for'])}, "
            f"{row['probability']:.0%}",
            fontsize=8,
            parse_math=False,
        )
    figure.suptitle("The surest mistakes on the test split")
    plt.close(figure)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
