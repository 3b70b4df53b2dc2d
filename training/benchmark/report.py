"""Medians, spread and ratios of the rounds, and the table of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from training.benchmark.turns import Turn
from training.tables import markdown

NETWORKS = {"float": "weights-only", "binary": "fully binary"}


@dataclass
class Series:
    """The turns of one variant on one network.

    Attributes:
        variant: Its name.
        width: Of the network.
        activations: Of the network.
        first_turn_seconds: The turn before the measured ones, in which networks are built and
            functions traced.
        turns: One a round.
        waiting_cpu: In each round, the share of one core that it used while others worked.
    """

    variant: str
    width: int
    activations: str
    first_turn_seconds: float
    turns: list[Turn] = field(default_factory=list)
    waiting_cpu: list[float] = field(default_factory=list)

    def rates(self, images: int, evaluation_images: int) -> pd.DataFrame:
        """By round: images/s trained and evaluated, and the seconds of a whole epoch."""
        turns = pd.DataFrame([asdict(turn) for turn in self.turns])
        training = turns.training_images / turns.training_seconds
        evaluation = turns.evaluation_images / turns.evaluation_seconds
        epoch = images / training + evaluation_images / evaluation + turns.other_seconds
        return pd.DataFrame(
            {"training": training, "evaluation": evaluation, "epoch": epoch}
            | {"other": turns.other_seconds}
        )


Row = dict[str, Any]


def summarize(series: Sequence[Series], images: int, evaluation_images: int) -> list[Row]:
    """What the table shows of each series; times and ratios as [10 %, median, 90 %] of the rounds.

    Args:
        series: All that was measured.
        images: Training images of a whole epoch.
        evaluation_images: Those that are evaluated after it.
    """
    rates = {
        (one.width, one.activations, one.variant): one.rates(images, evaluation_images)
        for one in series
    }
    return [
        {
            "variant": one.variant,
            "width": one.width,
            "activations": one.activations,
            **{
                name: [float(f"{value:.5g}") for value in np.percentile(values, [10, 50, 90])]
                for name, values in _measures(one, rates).items()
            },
        }
        | ({} if one.variant.endswith("-input") else {"first_turn_seconds": one.first_turn_seconds})
        for one in series
    ]


def _measures(one: Series, rates: dict[tuple[int, str, str], pd.DataFrame]) -> dict[str, pd.Series]:
    """By round, what is said of a series, from the rates of all."""
    network = one.width, one.activations
    own = rates[(*network, one.variant)]
    measures = {"training_images_per_second": own.training}
    if one.variant.endswith("-input"):
        trained = rates.get((*network, one.variant.removesuffix("-input")))
        return measures | (
            {} if trained is None else {"times_training": own.training / trained.training}
        )
    measures |= {
        "evaluation_images_per_second": own.evaluation,
        "evaluation_times_training": own.evaluation / own.training,
        "epoch_seconds": own.epoch,
        "other_seconds": own.other,
        "other_percent_of_epoch": 100 * own.other / own.epoch,
    }
    torch = [r for key, r in rates.items() if key[:2] == network and key[2].startswith("torch")]
    best = max(torch, key=lambda found: found.training.median(), default=None)
    plain, onednn = (rates.get((*network, name)) for name in ("plain", "plain-onednn"))
    for name, reference in (("plain", plain), ("plain_onednn", onednn), ("best_torch", best)):
        if reference is not None:
            measures[f"training_times_{name}"] = own.training / reference.training
            measures[f"epoch_times_{name}"] = reference.epoch / own.epoch
    twin = rates.get((one.width, "float", one.variant))
    if twin is not None and one.activations == "binary":
        measures["training_times_weights_only"] = own.training / twin.training
    return measures


COLUMNS = (
    ("training images/s", "training_images_per_second", 0),
    ("x plain", "training_times_plain", 2),
    ("x plain with oneDNN", "training_times_plain_onednn", 2),
    ("x PyTorch", "training_times_best_torch", 2),
    ("x weights-only", "training_times_weights_only", 2),
    ("evaluation images/s", "evaluation_images_per_second", 0),
    ("x training", "evaluation_times_training", 1),
    ("epoch s", "epoch_seconds", 1),
    ("x plain", "epoch_times_plain", 2),
    ("x plain with oneDNN", "epoch_times_plain_onednn", 2),
    ("x PyTorch", "epoch_times_best_torch", 2),
    ("other %", "other_percent_of_epoch", 1),
)


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown: medians, and behind the throughput of training its 10 to 90 %."""

    def cell(row: Row, key: str, digits: int) -> str:
        if key not in row:
            return ""
        low, median, high = row[key]
        spread = f" ({low:,.0f} to {high:,.0f})" if key == COLUMNS[0][1] else ""
        return f"{median:,.{digits}f}{spread}"

    columns = [one for one in COLUMNS if any(one[1] in row for row in rows)]
    header = ["network", "variant", *(f"{title}:" for title, _, _ in columns)]
    cells = [
        [
            f"width {row['width']}, {NETWORKS[row['activations']]}",
            row["variant"],
            *(cell(row, key, digits) for _, key, digits in columns),
        ]
        for row in rows
        if "epoch_seconds" in row
    ]
    lines = [markdown(header, cells)]
    for row in rows:
        if "epoch_seconds" not in row:
            times = row.get("times_training")
            beside = f", {times[1]:.1f} times as fast as training" if times else ""
            speed = f"{row['training_images_per_second'][1]:,.0f} images/s"
            lines.append(f"{row['variant']} beside width {row['width']}: {speed}{beside}")
    return "\n".join(lines)
