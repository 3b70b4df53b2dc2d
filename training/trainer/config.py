"""The configuration of one training run."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from larq_seresnet.architecture import Hyperparameters
from training.flags import flag
from training.trainer.data import SOURCES
from training.trainer.distribution import Kind

Precision = Literal["auto", "float32", "mixed_bfloat16"]
Kernels = Literal["auto", "fused", "keras"]

INDECISIVE = (
    "out",
    "data_dir",
    "cache",
    "cache_dir",
    "strict",
    "tensorboard",
    "calibrated_log",
)
"""Settings that change nothing about the network that comes out."""


@dataclass(frozen=True, kw_only=True)
class Config(Hyperparameters):
    """What `python -m training.fit` is told; each field, the network's too, is a flag.

    Raises:
        ValueError: A value is out of its range, or two contradict each other.
    """

    fmb_epochs: int | None = flag(None, "FMB for the first N epochs only (default: for all)")
    fmb_start: int = flag(0, "soft gates for the first N epochs, and FMB after them")
    freeze_gates: bool = flag(
        False, "leave the attention's weights as they were drawn: random gates, as a control"
    )
    hold_gates: int = flag(
        0, "with --open-gates: for the first N epochs all gates stay on, and learn after them"
    )
    dataset: str = flag(
        "cifar10",
        "your own pictures: a folder with a folder for each class, or a CSV file with the columns "
        "path and label; or a data set of tensorflow_datasets, such as svhn_cropped or mnist:3.*.*;"
        " or digits, pasted_digits or pasted_svhn",
    )
    size: str | None = flag(
        None,
        "height and width of the images, N or HxW (default: the data set's own, or 32 where its "
        "images have several)",
    )
    grey: bool = flag(False, "one channel instead of three")
    cache: bool = flag(True, "decode your pictures once, to a file; else whenever they are needed")
    cache_dir: str | None = flag(
        None, "where that file lies, and a teacher's answers (default: ~/.cache/larq-seresnet)"
    )
    strict: bool = flag(False, "stop at a picture that cannot be read, instead of skipping it")
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
    class_weights: Literal["none", "balanced"] = flag(
        "none", "balanced: images of rare classes count more, so that all classes count the same"
    )
    flip: Literal["auto", "none", "horizontal", "both"] = flag(
        "auto", "mirror images at random; auto: horizontal, but none for digits"
    )
    padding: int | None = flag(
        None,
        "black pixels on each side of training images, before random crops (default: an eighth of "
        "--size, or 4)",
    )
    color_jitter: float = flag(
        0.0, "change brightness, contrast and saturation by up to this share"
    )
    augment: Literal["none", "trivial"] = flag(
        "none", "trivial: TrivialAugment, for photographs and long trainings"
    )
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
    distinct_epochs: int = flag(
        0,
        "after N epochs the same batches come again, and the teacher's answers to them are looked "
        "up instead of asked for anew, in later runs too (0: all epochs differ)",
    )
    seed: int = flag(0, "of the weights, the order of the images and their augmentation")
    precision: Precision = flag(
        "auto", "auto: mixed_bfloat16 on CPUs that multiply it (AMX, AVX512-BF16), else float32"
    )
    kernels: Kernels = flag(
        "auto",
        "fused: our own C++ between the convolutions; keras: layer by layer; auto: fused on "
        "CPUs with a C++ compiler",
    )
    start_from: str | None = flag(
        None,
        "train on from the network in this .keras file or run folder, for instance a pruned one, "
        "or from a pretrained one such as cifar10; for other classes its last layer is drawn anew "
        "(default: new weights)",
    )
    freeze_body: int = flag(0, "train the last layer alone for the first N epochs")
    out: Path | None = flag(None, "the run's folder (default: runs/, named by the flags)")
    distribute: Kind = flag(
        "none",
        "share each batch: mirrored: by this machine's GPUs; multiworker: by several machines, "
        "named by the environment variable TF_CONFIG",
    )
    tensorboard: bool = flag(False, "write TensorBoard's logs into the run's folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._normalize()
        ranges: list[tuple[str, Callable[[Any], bool], str]] = [
            ("epochs batch_size fmb_epochs", lambda x: x is None or x >= 1, "at least 1"),
            (
                "cutout calibration fmb_start freeze_body distinct_epochs hold_gates",
                lambda x: x >= 0,
                "0 or more",
            ),
            ("seed", lambda x: 0 <= x < 2**32, "0 or more, and less than 2^32"),
            ("padding", lambda x: x is None or x >= 0, "0 or more"),
            ("learning_rate distill_temperature", lambda x: 0 < x < float("inf"), "positive"),
            (
                "weight_decay label_smoothing distill_weight color_jitter",
                lambda x: 0 <= x <= 1,
                "from 0 to 1",
            ),
            ("warmup", lambda x: 0 <= x < 1, "at least 0 and less than 1"),
        ]
        for names, is_right, wanted in ranges:
            for name in names.split():
                if not is_right(value := getattr(self, name)):
                    raise ValueError(f"{_flag(name)} must be {wanted}, not {value}")
        scheduled = self.fmb_epochs is not None or self.fmb_start
        binary_attention = self.activations == "binary" and not self.float_attention
        distills = self.distill_weight != 1 or self.distill_temperature != 1
        for broken, rule in (
            (scheduled and not self.fmb, "--fmb-epochs and --fmb-start need --fmb"),
            (self.fmb_start and self.fmb_epochs, "--fmb-start and --fmb-epochs exclude each other"),
            (self.open_gates and self.model == "float", "--open-gates needs 1-bit weights"),
            (self.open_gates and not self.fmb, "--open-gates needs --fmb"),
            (self.hold_gates and not self.open_gates, "--hold-gates needs --open-gates"),
            (
                self.hold_gates and binary_attention,
                "--hold-gates needs --activations float or --float-attention",
            ),
            (self.freeze_body and self.start_from is None, "--freeze-body needs --start-from"),
            (
                self.freeze_body and self.hold_gates,
                "--freeze-body and --hold-gates exclude each other",
            ),
            *(
                (
                    getattr(self, x) >= self.epochs,
                    f"{_flag(x)} must be less than --epochs {self.epochs}",
                )
                for x in ("fmb_start", "hold_gates", "freeze_body")
            ),
            (self.freeze_gates and self.gate == "none", "--freeze-gates needs a gate"),
            (
                self.freeze_gates and binary_attention,
                "--freeze-gates needs --activations float or --float-attention",
            ),
            (
                distills and self.distill == "none",
                "--distill-weight and --distill-temperature need --distill",
            ),
            (
                self.distinct_epochs and self.distill == "none",
                "--distinct-epochs needs --distill",
            ),
            (
                self.calibration and self.distribute != "none",
                "--calibration needs --distribute none",
            ),
            (self.calibrated_log and not self.calibration, "--calibrated-log needs --calibration"),
        ):
            if broken:
                raise ValueError(rule)

    def _normalize(self) -> None:
        """Give each meaning one form, so that runs can be compared."""
        if self.size is not None:
            numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", self.size)
            if not numbers or not all(16 <= int(n) <= 512 for n in numbers.groups() if n):
                raise ValueError(f"--size must be N or HxW, from 16 to 512 pixels, not {self.size}")
            height, width = numbers[1], numbers[2] or numbers[1]
            object.__setattr__(self, "size", height if height == width else f"{height}x{width}")
        if not self.dataset:
            raise ValueError("--dataset is empty: name a folder, a CSV file or a data set")
        for name in ("dataset", "start_from", "distill"):
            value = getattr(self, name)
            if value and value not in SOURCES and (path := Path(value).expanduser()).exists():
                slash = "/" if name == "dataset" and path.is_dir() else ""
                object.__setattr__(self, name, os.path.normpath(value) + slash)
        if self.padding == self._default_padding:
            object.__setattr__(self, "padding", None)

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """What `size` says."""
        if self.size is None:
            return None
        height, _, width = self.size.partition("x")
        return int(height), int(width or height)

    @property
    def _default_padding(self) -> int:
        return (self.height_and_width or (32, 32))[0] // 8

    @property
    def crop_padding(self) -> int:
        """`padding`, or what it is by default."""
        return self._default_padding if self.padding is None else self.padding

    @property
    def soft_targets(self) -> bool:
        """Whether what the network learns to answer are probabilities, not labels."""
        return self.label_smoothing > 0 or self.distill != "none"

    @property
    def folder(self) -> Path:
        """The run's folder: `out`, or one named by what differs from the defaults."""
        if self.out is not None:
            return self.out
        dataset = re.sub(r"[^\w.]+", "-", Path(self.dataset).name)
        names = [dataset, "fmb" if self.fmb else "no-fmb"]
        for name, value in self._chosen(*INDECISIVE, "dataset", "fmb"):
            if name == "start_from":
                value = Path(value).stem
            words = value if isinstance(value, tuple) else [value]
            names.append("-".join([name, *map(str, words)]).replace("_", "-").replace("/", "-"))
        return Path("runs") / "_".join(names)

    @property
    def command(self) -> str:
        """The shell command that trains this, without the flags that have their defaults."""
        words = ["python", "-m", "training.fit"]
        for name, value in self._chosen():
            values = value if isinstance(value, tuple) else [] if value is True else [value]
            words += [_flag(name), *map(str, values)]
        return shlex.join(words)

    def _chosen(self, *skipped: str) -> Iterator[tuple[str, Any]]:
        """The fields that differ from their defaults."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in skipped and value != item.default:
                yield item.name, value

    def decisive(self) -> dict[str, Any]:
        """What decides the result, as JSON has it: not where files lie, nor what is shown."""
        values = {**asdict(self), "padding": self.crop_padding}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if key not in INDECISIVE
        }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
