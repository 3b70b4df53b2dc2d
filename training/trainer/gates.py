"""Statistics of the gates after each epoch, on a fixed batch: `gates.csv` in the run's folder.

One row an epoch and squeeze-and-excitation module (SE1 is the first block's), of the channel
weights M_c before FMB, over 250 validation images and all channels:

epoch, module
fmb           1 where FMB is on: then the features are scaled by 0 and 1 (or -1 and 1) instead
low, high     the values that M_c lies between
channels      of the module
open          share of M_c at the threshold or above it: what FMB sets to `high`
ever_open     share of the channels that are open for at least one of the images
always_open   share of the channels that are open for every image
bin_00 ...    share of M_c in each of 20 equal bins from `low` to `high`; the threshold is an edge
"""

import numpy as np
import tensorflow as tf

from larq_seresnet import gates
from larq_seresnet.attention import modules as attention_modules
from larq_seresnet.datasets import Data
from training.trainer.run_folder import Row

FILE = "gates.csv"
IMAGES = 250
BINS = 20


class Recorder:
    """The gates' statistics after an epoch.

    Args:
        model: Whose gates to look at; it need not have any.
        dataset: On whose first validation images to look at them.
    """

    def __init__(self, model: tf.keras.Model, dataset: Data) -> None:
        self._images = tf.constant(dataset.validation[0][:IMAGES])
        self._modules = attention_modules(model)
        self._features = tf.keras.Model(model.input, [module.input for module in self._modules])

    def __call__(self, epoch: int) -> list[Row]:
        """One row a module, of an epoch that is counted from 1."""
        if not self._modules:
            return []
        features = tf.nest.flatten(self._features(self._images, training=False))
        rows = []
        for number, (module, x) in enumerate(zip(self._modules, features, strict=True), 1):
            gate = gates.get(module.gate)
            weights = gate.activation(module.preactivation(x, training=False)).numpy()
            about = {"epoch": epoch, "module": number, "fmb": float(module.fmb.enabled)}
            rows.append({**about, **statistics(weights.reshape(len(x), -1), gate)})
        return rows


def statistics(weights: np.ndarray, gate: gates.Gate) -> Row:
    """What `gates.csv` says of channel weights M_c of shape (images, channels)."""
    is_open = weights >= gate.threshold
    counts, _ = np.histogram(weights.astype(np.float64), BINS, (gate.low, gate.high))
    return {
        "low": gate.low,
        "high": gate.high,
        "channels": weights.shape[1],
        "open": float(is_open.mean()),
        "ever_open": float(is_open.any(axis=0).mean()),
        "always_open": float(is_open.all(axis=0).mean()),
        **{f"bin_{i:02d}": count / weights.size for i, count in enumerate(counts)},
    }
