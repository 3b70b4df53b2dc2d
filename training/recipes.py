"""Named configurations of `python -m training.fit --recipe NAME`; its other flags change them.

The papers' arms (`training.arms`) share plain settings, so that they can be compared. These are
for the smallest error. What each ingredient gives is in the README, measured.
"""

from collections.abc import Mapping
from typing import Any

_LONG = {
    "epochs": 200,
    "schedule": "one-cycle",
    "label_smoothing": 0.0,
}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "best": {**_LONG, "fmb": True, "distill": "cifar10"},
}
