"""The papers' experiments as named configurations: `python -m training.arms` lists them.

All arms share the batch size and the augmentation, all but those of SGD the optimizer, and train
at a constant learning rate, so that the curve to epoch 10, 30 and 100 is one run. Where a run ends,
it is also measured with batch norm calibrated (`training/trainer/calibration.py`). The rate is
tuned on the validation split with the same budget for each group of arms
(`python -m training.sweep`). Where nothing else is said, weights are 1 bit and activations float.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.trainer.config import Config

COMMON: Mapping[str, Any] = {
    "optimizer": "adam",
    "batch_size": 128,
    "schedule": "constant",
    "calibration": 100,
}

GROUPS: Mapping[str, Mapping[str, Any]] = {
    "without": {},
    "ste": {"fmb": True},
    "cut": {"fmb": True, "gradient": "cut"},
    "float32": {"model": "float"},
    "sgd": {"optimizer": "sgd"},
    "sgd_ste": {"optimizer": "sgd", "fmb": True},
}
"""What shares a tuned learning rate: without FMB, FMB by gradient, the float32 network, and SGD."""

RATES = {"sgd": 1.0, "sgd_ste": 1.0}
"""Of groups that `training.paper` does not tune: see `training/results/paper/tuning/sgd.csv`."""


@dataclass(frozen=True)
class Arm:
    """One configuration of the experiments.

    Attributes:
        name: Names it in commands, folders and tables.
        title: Names it in pictures and text.
        group: Of `GROUPS`: which settings, and which learning rate.
        paper: What the papers say of it, and where.
        settings: What it adds to its group's settings.
    """

    name: str
    title: str
    group: str
    paper: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **settings: Any) -> Config:
        """The arm's run, with further settings: at least a learning rate and a number of epochs."""
        return Config(**{**COMMON, **GROUPS[self.group], **self.settings, **settings})

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether the stored configuration of a run is this arm's, of whatever seed and length."""
        free = ("learning_rate", "epochs", "seed", "dataset", "width", "precision", "kernels")
        wanted = self.config(learning_rate=1.0, epochs=1).decisive()
        found = {**Config().decisive(), **config}
        return all(found[key] == value for key, value in wanted.items() if key not in free)


_TANH = "Table I: {} % less error than the baseline after 9 epochs"
_P2 = "P2 adds HardTanh; its numbers are not in the abstract"
_CONTROL = "control of this project's: "
_SCALED = (
    "no number: 1-bit attention as the paper builds it saturates; here its pre-activation is "
    "divided by the root of the number of terms"
)
_FMB = (
    "Table I: 44.64 % less error than the baseline after 9 epochs; Table II: 36.27 % error at "
    "epoch 6; Table III: 30 % error after 9 epochs"
)

_ARMS = [
    Arm(
        "sigmoid",
        "sigmoid",
        "without",
        "the baseline of Table I; Table III: 30 % error after 23 epochs",
    ),
    Arm("sigmoid_fmb", "sigmoid + FMB", "ste", _FMB),
    Arm(
        "sigmoid_fmb5",
        "sigmoid + FMB for 5 epochs",
        "ste",
        "P1: weights are binarized in the early stages of training; no number",
        {"fmb_epochs": 5},
    ),
    Arm("sgd", "sigmoid, SGD", "sgd", "the papers name no optimizer"),
    Arm("sgd_fmb", "sigmoid + FMB, SGD", "sgd_ste", "the papers name no optimizer"),
    Arm(
        "sigmoid_cut",
        "sigmoid + FMB (cut)",
        "cut",
        f"FMB to the letter, without a gradient. {_FMB}",
    ),
    Arm("tanh", "tanh", "without", _TANH.format(19.95), {"gate": "tanh"}),
    Arm(
        "tanh_fmb",
        "tanh + FMB",
        "ste",
        f"{_TANH.format(40.72)}; Table II: 46.54 % error at epoch 6",
        {"gate": "tanh"},
    ),
    Arm("hard_tanh", "hard_tanh", "without", _P2, {"gate": "hard_tanh"}),
    Arm("hard_tanh_fmb", "hard_tanh + FMB", "ste", _P2, {"gate": "hard_tanh"}),
    Arm("float32", "sigmoid, float32", "float32", "Table II: 50.29 % error at epoch 6"),
    Arm(
        "no_se",
        "no attention",
        "without",
        f"{_CONTROL}the same network without squeeze-and-excitation",
        {"gate": "none"},
    ),
    Arm(
        "frozen_fmb",
        "random gates + FMB",
        "ste",
        f"{_CONTROL}the attention's weights stay as they were drawn, so that FMB is a random mask "
        "that depends on the image",
        {"freeze_gates": True},
    ),
    Arm("sigmoid_scale", "scaled sigmoid", "without", _SCALED, {"attention_scale": True}),
    Arm("sigmoid_scale_fmb", "scaled sigmoid + FMB", "ste", _SCALED, {"attention_scale": True}),
]
ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ARMS}


def identify(config: Mapping[str, Any]) -> Arm | None:
    """The arm that a stored configuration belongs to."""
    return next((arm for arm in ARMS.values() if arm.matches(config)), None)


def main() -> None:
    """List the arms."""
    argparse.ArgumentParser(prog="python -m training.arms", description=__doc__).parse_args()
    for arm in ARMS.values():
        command = arm.config(learning_rate=Config().learning_rate, epochs=10).command
        print(f"{arm.name}\n  {arm.title}; learning rate of group {arm.group}")
        print(f"  paper: {arm.paper}\n  {command}")
