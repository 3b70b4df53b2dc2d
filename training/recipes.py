"""Named configurations of `python -m training.fit --recipe NAME`; its other flags change them.

The papers' arms (`training.arms`) share plain settings, so that they can be compared. These are for
the smallest error, of which the README says what each ingredient gave:

best-float         the teacher of the others; export it first (`python -m training.export`)
best               1-bit weights, FMB
best-fully-binary  1-bit weights and activations, FMB
2-epochs, 6-epochs 1-bit weights, FMB, in a short time
"""

from collections.abc import Mapping
from typing import Any

_TEACHER = {"distill": "cifar10", "distill_weight": 0.9, "distill_temperature": 2.0}
_BINARY = {"fmb": True, "attention_scale": True, "calibration": 300, **_TEACHER}
_SHORT = {**_BINARY, "batch_size": 32, "learning_rate": 1e-2}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "best-float": {
        "model": "float",
        "epochs": 60,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-3,  # Keras's passes no momentum: 10 times the usual one is as strong
    },
    "best": {**_BINARY, "epochs": 80},
    "best-fully-binary": {**_BINARY, "activations": "binary", "epochs": 200},
    "2-epochs": {**_SHORT, "epochs": 2, "padding": 0},  # too few to see an image's crops
    "6-epochs": {**_SHORT, "epochs": 6, "padding": 1},
}
