"""The papers' experiments as named configurations: `python -m training.arms` lists them.

All arms share the optimizer, the batch size and the augmentation, and train at a constant
learning rate, so that the curve to epoch 10, 30 and 100 is one run. Where a run ends, it is also
measured with batch norm calibrated (`training/trainer/calibration.py`). The rate is tuned on the
validation split with the same budget for each group of arms (`python -m training.sweep`). Where
nothing else is said, weights are 1 bit and activations float.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
}
"""What shares a tuned learning rate: without FMB, FMB by gradient, and the float32 network."""

FIRST_EPOCHS = 5


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

    def config(
        self,
        *,
        learning_rate: float,
        epochs: int,
        seed: int = 0,
        dataset: str = "cifar10",
        width: int = 16,
        data_dir: str | None = None,
        out: Path | None = None,
    ) -> Config:
        """The arm's run."""
        return Config(
            **{
                **COMMON,
                **GROUPS[self.group],
                **self.settings,
                "learning_rate": learning_rate,
                "epochs": epochs,
                "seed": seed,
                "dataset": dataset,
                "width": width,
                "data_dir": data_dir,
                "out": out,
            }
        )

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether the stored configuration of a run is this arm's, of whatever seed and length."""
        free = ("learning_rate", "epochs", "seed", "dataset", "width", "precision", "kernels")
        wanted = self.config(learning_rate=1.0, epochs=1).decisive()
        found = {**Config().decisive(), **config}
        return all(found[key] == value for key, value in wanted.items() if key not in free)


def _gate_arms() -> list[Arm]:
    """Every gate without FMB, with FMB of both gradients, and with FMB for the first epochs."""
    paper = {
        ("sigmoid", "without"): "the baseline of Table I; Table III: 30 % error after 23 epochs",
        ("sigmoid", "ste"): "Table I: 44.64 % less error than the baseline after 9 epochs; "
        "Table II: 36.27 % error at epoch 6; Table III: 30 % error after 9 epochs",
        ("tanh", "without"): "Table I: 19.95 % less error than the baseline after 9 epochs",
        ("tanh", "ste"): "Table I: 40.72 % less error than the baseline after 9 epochs; "
        "Table II: 46.54 % error at epoch 6",
        ("hard_tanh", "without"): "P2 adds HardTanh; its numbers are not in the abstract",
        ("hard_tanh", "ste"): "P2 adds HardTanh; its numbers are not in the abstract",
    }
    arms = []
    for gate in ("sigmoid", "tanh", "hard_tanh"):
        for group, suffix, title, how in (
            ("without", "", "", ""),
            ("ste", "_fmb", " + FMB", ""),
            (
                "cut",
                "_cut",
                " + FMB (cut)",
                "FMB to the letter, without a gradient. ",
            ),
        ):
            numbers = paper[gate, "without" if group == "without" else "ste"]
            arms.append(Arm(gate + suffix, gate + title, group, how + numbers, {"gate": gate}))
        arms.append(
            Arm(
                f"{gate}_first{FIRST_EPOCHS}",
                f"{gate} + FMB to epoch {FIRST_EPOCHS}",
                "ste",
                'P1: gates are binarized "during the early stages of training"; no numbers',
                {"gate": gate, "fmb_epochs": FIRST_EPOCHS},
            )
        )
    return arms


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in [
        *_gate_arms(),
        Arm(
            "float32",
            "sigmoid, float32",
            "float32",
            "Table II: 50.29 % error at epoch 6",
        ),
        Arm(
            "no_se",
            "no attention",
            "without",
            "control of this project's: the same network without squeeze-and-excitation",
            {"gate": "none"},
        ),
        Arm(
            "frozen_fmb",
            "random gates + FMB",
            "ste",
            "control of this project's: the attention's weights stay as they were drawn, so that "
            "FMB is a random mask that depends on the image",
            {"freeze_gates": True},
        ),
        *(
            Arm(
                f"sigmoid_scale{suffix}",
                f"scaled sigmoid{title}",
                group,
                "no number: 1-bit attention as the paper builds it saturates; here its "
                "pre-activation is divided by the root of the number of terms",
                {"attention_scale": True},
            )
            for group, suffix, title in (("without", "", ""), ("ste", "_fmb", " + FMB"))
        ),
        Arm(
            "frozen",
            "random gates",
            "without",
            "control of this project's: as random gates + FMB, with soft gates",
            {"freeze_gates": True},
        ),
    ]
}


def identify(config: Mapping[str, Any]) -> Arm | None:
    """The arm that a stored configuration belongs to."""
    return next((arm for arm in ARMS.values() if arm.matches(config)), None)


def main() -> None:
    """List the arms."""
    for arm in ARMS.values():
        command = arm.config(learning_rate=Config().learning_rate, epochs=10).command
        print(f"{arm.name}\n  {arm.title}; learning rate of group {arm.group}")
        print(f"  paper: {arm.paper}\n  {command}")


if __name__ == "__main__":
    main()
