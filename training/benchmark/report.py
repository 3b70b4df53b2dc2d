"""Medians, spread and ratios of the rounds, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.benchmark.turns import Turn


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

    @property
    def training(self) -> np.ndarray:
        """Images a second in the training steps, by round."""
        return np.array([turn.training_images / turn.training_seconds for turn in self.turns])

    @property
    def evaluation(self) -> np.ndarray:
        """Images a second in the evaluation, by round."""
        return np.array([turn.evaluation_images / turn.evaluation_seconds for turn in self.turns])

    def epoch(self, images: int, evaluation_images: int) -> np.ndarray:
        """Seconds of an epoch of so many images, with all that belongs to it, by round."""
        other = np.array([turn.other_seconds for turn in self.turns])
        return images / self.training + evaluation_images / self.evaluation + other


Row = dict[str, Any]


def summarize(series: Sequence[Series], images: int, evaluation_images: int) -> list[Row]:
    """What the table shows of each series; times and ratios as [10 %, median, 90 %] of the rounds.

    Args:
        series: All that was measured.
        images: Training images of a whole epoch.
        evaluation_images: Those that are evaluated after it.
    """
    rows = []
    for one in series:
        row: Row = {
            "variant": one.variant,
            "width": one.width,
            "activations": one.activations,
            "training_images_per_second": _spread(one.training),
        }
        peers = [other for other in series if other.width == one.width]
        if one.variant.endswith("input"):
            trained = _find(peers, one.variant.removesuffix("-input"), one.activations)
            if trained:
                row["times_training"] = _spread(one.training / trained.training)
            rows.append(row)
            continue
        epoch = one.epoch(images, evaluation_images)
        other = np.array([turn.other_seconds for turn in one.turns])
        row |= {
            "evaluation_images_per_second": _spread(one.evaluation),
            "evaluation_times_training": _spread(one.evaluation / one.training),
            "epoch_seconds": _spread(epoch),
            "other_seconds": _spread(other),
            "other_percent_of_epoch": _spread(100 * other / epoch),
            "first_turn_seconds": one.first_turn_seconds,
        }
        torch = [
            peer
            for peer in peers
            if peer.variant.startswith("torch") and peer.activations == one.activations
        ]
        references = {
            "plain": _find(peers, "plain", one.activations),
            "best_torch": max(
                torch, key=lambda peer: float(np.median(peer.training)), default=None
            ),
        }
        for name, reference in references.items():
            if reference:
                row[f"training_times_{name}"] = _spread(one.training / reference.training)
                row[f"epoch_times_{name}"] = _spread(
                    reference.epoch(images, evaluation_images) / epoch
                )
        twin = _find(peers, one.variant, "float")
        if twin and one.activations == "binary":
            row["training_times_weights_only"] = _spread(one.training / twin.training)
        rows.append(row)
    return rows


def _find(series: Sequence[Series], variant: str, activations: str) -> Series | None:
    for one in series:
        if (one.variant, one.activations) == (variant, activations):
            return one
    return None


def _spread(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in np.percentile(values, [10, 50, 90])]


COLUMNS = (
    ("training images/s", "training_images_per_second", 0),
    ("x plain", "training_times_plain", 2),
    ("x PyTorch", "training_times_best_torch", 2),
    ("x weights-only", "training_times_weights_only", 2),
    ("evaluation images/s", "evaluation_images_per_second", 0),
    ("x training", "evaluation_times_training", 1),
    ("epoch s", "epoch_seconds", 1),
    ("x plain", "epoch_times_plain", 2),
    ("x PyTorch", "epoch_times_best_torch", 2),
    ("other %", "other_percent_of_epoch", 1),
)


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown: medians, and behind the throughput of training its 10 to 90 %."""
    names = {"float": "weights-only", "binary": "fully binary"}
    header = ["network", "variant", *(title for title, _, _ in COLUMNS)]
    lines = [header, ["---", "---", *["---:"] * len(COLUMNS)]]
    for row in rows:
        if "epoch_seconds" not in row:
            continue
        cells = [f"width {row['width']}, {names[row['activations']]}", row["variant"]]
        for _, key, digits in COLUMNS:
            if key not in row:
                cells.append("")
                continue
            low, median, high = row[key]
            spread = f" ({low:,.0f} to {high:,.0f})" if key == COLUMNS[0][1] else ""
            cells.append(f"{median:,.{digits}f}{spread}")
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    for row in rows:
        if "epoch_seconds" not in row:
            times = row.get("times_training")
            beside = f", {times[1]:.1f} times as fast as training" if times else ""
            text += (
                f"\n{row['variant']} beside width {row['width']}: "
                f"{row['training_images_per_second'][1]:,.0f} images/s{beside}"
            )
    return text
