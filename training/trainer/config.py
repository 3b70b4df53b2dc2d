"""The configuration of one training run."""

import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from training.flags import flag
from training.trainer.distribution import Kind

Precision = Literal["auto", "float32", "mixed_bfloat16"]
Kernels = Literal["auto", "fused", "keras"]

INDECISIVE = ("out", "data_dir", "tensorboard", "calibrated_log")
"""Settings that change nothing about the network that comes out."""


@dataclass(frozen=True)
class Config:
    """What `python -m training.fit` is told; each field is a flag.

    Raises:
        ValueError: A value is out of its range, or two contradict each other.
    """

    model: Literal["binary", "float"] = flag(
        "binary", "SEResNet14Bin with 1-bit weights, or SEResNet14 in float32"
    )
    activations: Literal["float", "binary"] = flag(
        "float", "binary: binarize the activations too (fully binary network)"
    )
    width: int = flag(16, "channels of the first stage; then 2 and 4 times as many")
    reduction: int = flag(1, "reduction ratio of squeeze-and-excitation")
    gate: Literal["sigmoid", "tanh", "hard_tanh", "none"] = flag(
        "sigmoid", "activation of the channel attention; none: no squeeze-and-excitation"
    )
    attention_scale: bool = flag(False, "scale the gates' pre-activation, so that none saturates")
    fmb: bool = flag(False, "binarize the gates: feature map binarization")
    fmb_epochs: int | None = flag(None, "FMB for the first N epochs only (default: for all)")
    fmb_start: int = flag(0, "soft gates for the first N epochs, and FMB after them")
    gradient: Literal["ste", "cut"] = flag(
        "ste", "gradient through FMB: straight-through, or none as in the paper to the letter"
    )
    freeze_gates: bool = flag(
        False, "leave the attention's weights as they were drawn: random gates, as a control"
    )
    dataset: Literal["cifar10", "svhn_cropped", "digits", "pasted_digits", "pasted_svhn"] = flag(
        "cifar10", "digits and pasted_digits need no download"
    )
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    epochs: int = flag(100, "passes over the training split")
    batch_size: int = flag(128, "images in a step")
    optimizer: Literal["adam", "sgd"] = flag("adam", "sgd has Nesterov momentum 0.9")
    learning_rate: float = flag(5e-3, "the schedule's highest")
    schedule: Literal["constant", "cosine", "one-cycle"] = flag(
        "one-cycle", "of the learning rate; one-cycle rises at first (--warmup)"
    )
    warmup: float = flag(0.2, "share of the steps over which one-cycle rises")
    weight_decay: float = flag(0.0, "share of each weight that a step removes, times its rate")
    label_smoothing: float = flag(0.0, "share of the label that is spread over all classes")
    padding: int = flag(4, "black pixels on each side of training images, before random crops")
    cutout: int = flag(0, "blacken a square of N pixels at a random place of each training image")
    calibration: int = flag(
        0, "after training, average batch norm's statistics over N batches of training images"
    )
    calibrated_log: bool = flag(
        False, "log errors with batch norm calibrated after every epoch too (calibrated.csv)"
    )
    distill: str = flag(
        "none",
        "teacher whose answers are learned: a run's folder, a .keras file, or the data set of a "
        "pretrained SEResNet14",
    )
    distill_weight: float = flag(1.0, "the teacher's share of the targets, the labels' is the rest")
    distill_temperature: float = flag(1.0, "divides the teacher's logits")
    seed: int = flag(0, "of the weights, the order of the images and their augmentation")
    precision: Precision = flag("auto", "auto: mixed_bfloat16 on CPUs with AMX, else float32")
    kernels: Kernels = flag(
        "auto",
        "fused: our own C++ between the convolutions; keras: layer by layer; auto: fused on "
        "CPUs with a C++ compiler",
    )
    start_from: str | None = flag(
        None,
        "train on from the network in this .keras file or run folder, for instance a pruned one "
        "(default: new weights)",
    )
    out: Path | None = flag(None, "the run's folder (default: runs/, named by the flags)")
    distribute: Kind = flag(
        "none",
        "share each batch: mirrored: by this machine's GPUs; multiworker: by several machines, "
        "named by the environment variable TF_CONFIG",
    )
    tensorboard: bool = flag(False, "write TensorBoard's logs into the run's folder")

    def __post_init__(self) -> None:
        for name in ("width", "reduction", "epochs", "batch_size", "fmb_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("seed", "padding", "cutout", "calibration", "fmb_start"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"--{name.replace('_', '-')} must not be negative, not {value}")
        for name in ("learning_rate", "distill_temperature"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} must be positive, not {value}")
        for name in ("weight_decay", "label_smoothing", "distill_weight"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"--{name.replace('_', '-')} must be from 0 to 1, not {value}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"--warmup must be at least 0 and less than 1, not {self.warmup}")
        if self.width % self.reduction:
            raise ValueError(f"--reduction {self.reduction} does not divide --width {self.width}")
        if self.fmb_epochs is not None and not self.fmb:
            raise ValueError("--fmb-epochs needs --fmb")
        if self.fmb_start and not self.fmb:
            raise ValueError("--fmb-start needs --fmb")
        if self.fmb_start and self.fmb_epochs is not None:
            raise ValueError("--fmb-start and --fmb-epochs exclude each other")
        if self.fmb_start >= self.epochs:
            raise ValueError(f"--fmb-start must be less than --epochs, {self.epochs}")
        if self.fmb and self.gate == "none":
            raise ValueError("--fmb needs a gate, not --gate none")
        if self.freeze_gates and self.gate == "none":
            raise ValueError("--freeze-gates needs a gate, not --gate none")
        if self.freeze_gates and self.activations == "binary":
            raise ValueError("--freeze-gates needs --activations float")
        if self.attention_scale and self.gate == "none":
            raise ValueError("--attention-scale needs a gate, not --gate none")
        if self.distill == "none" and (self.distill_weight != 1 or self.distill_temperature != 1):
            raise ValueError("--distill-weight and --distill-temperature need --distill")
        if self.calibration and self.distribute != "none":
            raise ValueError("--calibration needs --distribute none")
        if self.calibrated_log and not self.calibration:
            raise ValueError("--calibrated-log needs --calibration")
        if self.model == "float" and self.activations == "binary":
            raise ValueError("--activations binary needs --model binary")

    @property
    def soft_targets(self) -> bool:
        """Whether what the network learns to answer are probabilities, not labels."""
        return self.label_smoothing > 0 or self.distill != "none"

    @property
    def folder(self) -> Path:
        """The run's folder: `out`, or one named by what differs from the defaults."""
        if self.out is not None:
            return self.out
        skipped = (*INDECISIVE, "dataset", "fmb")
        names = [self.dataset, "fmb" if self.fmb else "no-fmb"]
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "start_from" and value is not None:
                value = Path(value).stem
            if item.name not in skipped and value != item.default:
                names.append(f"{item.name.replace('_', '-')}-{value}".replace("/", "-"))
        return Path("runs") / "_".join(names)

    @property
    def command(self) -> str:
        """The shell command that trains this, without the flags that have their defaults."""
        words = ["python", "-m", "training.fit"]
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                name = item.name.replace("_", "-")
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return shlex.join(words)

    def decisive(self) -> dict[str, Any]:
        """What decides the result: everything but where files lie and what is shown."""
        return {key: value for key, value in asdict(self).items() if key not in INDECISIVE}
