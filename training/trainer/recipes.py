"""Named configurations of `python -m training.fit --recipe NAME`; its other flags change them.

The papers' arms (`training.arms`) share plain settings, so that they can be compared. These are for
the smallest error, of which the README says what each ingredient gave:

best-float         the teacher of the others; export it first (`python -m training.export`)
small-float        float networks of small widths (`--width 4`), which int8 makes as small as 1 bit
best-open          1-bit weights, FMB, whose gates are on at first: the pretrained network's
best, best-no-fmb  1-bit weights, FMB from the start or soft gates, in half the time
best-fully-binary  1-bit weights and activations, FMB
best-fully-binary-2  trains it on, for another cycle of the learning rate
2-epochs, 6-epochs 1-bit weights, FMB, in a short time
svhn-float, svhn, svhn-fully-binary  the first three on SVHN; svhn-float is the teacher
"""

from collections.abc import Mapping
from typing import Any

_FLOAT = {
    "model": "float",
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-3,  # Keras's passes no momentum: 10 times the usual one is as strong
}
_TEACHER = {"distill": "cifar10", "distill_weight": 0.9, "distill_temperature": 2.0}
_BINARY = {"fmb": True, "attention_scale": True, "calibration": 300, **_TEACHER}
_FULLY_BINARY = {**_BINARY, "activations": "binary"}
_SHORT = {**_BINARY, "batch_size": 16, "learning_rate": 1e-2}

# Few images: smaller batches, so that an epoch has more steps, and squares cut out of them.
_SVHN = {"dataset": "svhn_cropped", "epochs": 200, "batch_size": 64, "cutout": 16}
_SVHN_BINARY = {**_BINARY, "distill": "runs/svhn-float", **_SVHN}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "best-float": {**_FLOAT, "epochs": 60},
    "small-float": {**_FLOAT, "epochs": 120},
    "best": {**_BINARY, "epochs": 80},
    "best-no-fmb": {**_BINARY, "fmb": False, "epochs": 80},
    "best-open": {
        **_BINARY,
        "open_gates": True,
        "hold_gates": 100,
        "epochs": 170,
        "distinct_epochs": 40,
    },
    "best-fully-binary": {**_FULLY_BINARY, "epochs": 140},
    "best-fully-binary-2": {
        **_FULLY_BINARY,
        "start_from": "runs/best-fully-binary",
        "epochs": 120,
        "learning_rate": 2e-2,
    },
    "svhn-float": {**_FLOAT, **_SVHN, "epochs": 150},
    "svhn": _SVHN_BINARY,
    "svhn-fully-binary": {**_SVHN_BINARY, "activations": "binary", "learning_rate": 1e-2},
    # Too few epochs to see an image's crops; soft gates learn faster at first.
    "2-epochs": {**_SHORT, "epochs": 2, "warmup": 0.4, "padding": 0, "fmb_start": 1},
    "6-epochs": {**_SHORT, "epochs": 6, "padding": 1, "fmb_start": 3},
}
