"""The learning curves of a run as a picture."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from training.run_folder import Row


def draw(runs: dict[str, list[Row]]) -> Any:
    """Top-1 errors over the epochs.

    Args:
        runs: Logs by the runs' names. One run is drawn with its three splits, several runs with
            their test errors.

    Returns:
        A matplotlib figure.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, log in runs.items():
        splits = ("train", "validation", "test") if len(runs) == 1 else ("test",)
        for split in splits:
            errors = [row[f"{split}_error"] for row in log]
            label = split if len(runs) == 1 else name
            (line,) = axes.plot(
                [row["epoch"] for row in log],
                errors,
                marker="." if len(log) < 40 else "",
                label=label,
            )
            if split == "test":
                axes.annotate(
                    f"{errors[-1]:.1f} %",
                    (log[-1]["epoch"], errors[-1]),
                    xytext=(6, 0),
                    textcoords="offset points",
                    color=line.get_color(),
                    va="center",
                )
    axes.set(xlabel="epoch", ylabel="top-1 error (%)", ylim=(0, None))
    axes.set_title(next(iter(runs)) if len(runs) == 1 else "top-1 error on the test split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    plt.close(figure)
    return figure
