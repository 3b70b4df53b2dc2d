"""What a file's answers are worth when pictures get worse: `python -m training.robustness`.

For each `.tflite` file, on the test split: the top-1 error on clean images and under corruptions;
how far its probabilities are from how often they are right; and ten images with what it says.

The corruptions are those of CIFAR-10-C (Hendrycks, Dietterich, arXiv:1903.12261) at severity 3, by
the formulas of its publication, with a random generator of our own.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from larq_seresnet.datasets import top1_error
from larq_seresnet.edge import Interpreter
from larq_seresnet.files import write_atomically
from training import UserError, flags
from training.command import ending
from training.experiments.records import write_csv
from training.flags import flag
from training.pictures import png
from training.tables import markdown
from training.trainer import data

FILES = (
    "seresnet14_cifar10_litert",
    "seresnet14_bin_cifar10_litert",
    "seresnet14_bin_cifar10_litert_int8",
    "seresnet14_bin_no_fmb_cifar10_litert",
    "seresnet14_fully_binary_cifar10_litert",
)
SHOWN = 10  # images
BINS = 15  # of the calibration error, as in Guo et al., arXiv:1706.04599

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _gaussian_noise(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return x + random.normal(scale=0.08, size=x.shape)


def _shot_noise(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.poisson(x * 100) / 100


def _gaussian_blur(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(x, sigma=(0, 0.7, 0.7, 0), mode="nearest")


def _brightness(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    hsv = colors.rgb_to_hsv(x)
    hsv[..., 2] = np.minimum(hsv[..., 2] + 0.15, 1)
    return colors.hsv_to_rgb(hsv)


def _contrast(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    means = x.mean(axis=(1, 2), keepdims=True)
    return (x - means) * 0.4 + means


def _jpeg(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    def compress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "jpeg", quality=58)
        return Image.open(file)

    return _by_pillow(x, compress)


def _pixelate(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    def coarsen(image: Image.Image) -> Image.Image:
        small = int(image.width * 0.85), int(image.height * 0.85)
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_pillow(x, coarsen)


def _by_pillow(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    images = (Image.fromarray(pixels) for pixels in np.round(x * 255).astype(np.uint8))
    return np.stack([np.asarray(change(image)) for image in images]) / 255


CORRUPTIONS: Mapping[str, Corruption] = {
    "clean": lambda x, random: x,
    "Gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "Gaussian blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "JPEG": _jpeg,
    "pixelate": _pixelate,
}


def corrupted(images: np.ndarray, name: str, seed: int = 0) -> np.ndarray:
    """Images under a corruption.

    Args:
        images: (n, height, width, 3) uint8.
        name: One of `CORRUPTIONS`.
        seed: Of what is random.

    Returns:
        As `images`.
    """
    changed = CORRUPTIONS[name](images / 255, np.random.default_rng(seed))
    # As there, what is between two values becomes the lower; but not whole numbers by rounding.
    return (np.clip(changed, 0, 1) * 255 + 1e-6).astype(np.uint8)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error in percent.

    Mean distance between the highest probability and how often it is right, over bins of the
    former, weighted by the images in them (Guo et al., arXiv:1706.04599, Eq. 3).

    Args:
        probabilities: (n, classes).
        labels: (n).
    """
    highest = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.minimum((highest * BINS).astype(int), BINS - 1)
    gaps = np.bincount(numbers, weights=right - highest, minlength=BINS)
    return float(100 * np.abs(gaps).sum() / len(labels))


@dataclass(frozen=True)
class RobustnessConfig:
    """What `python -m training.robustness` is told; each field is a flag."""

    files: tuple[str, ...] = flag(FILES, "names of files, of one data set")
    folder: Path = flag(Path("tflite_models"), "where they lie")
    dataset: str = flag("cifar10", "whose test split")
    images: int | None = flag(None, "only the first N of the images")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    out: Path = flag(Path("training/results/robustness"), "folder of the results")

    def __post_init__(self) -> None:
        flags.require_positive(self, "images")


def work(config: RobustnessConfig) -> None:
    """Measure, and write `robustness.csv`, `README.md` and `examples.png`.

    Raises:
        UserError: The images are missing, or a file cannot be run on them.
    """
    dataset = data.load(config.dataset, config.data_dir)
    images, labels = data.first(dataset.test, config.images or len(dataset.test[1]))
    rows, examples, classes = [], {}, len(dataset.source.labels)
    models = {name: _load(config.folder / f"{name}.tflite") for name in config.files}
    for corruption in CORRUPTIONS:
        changed = corrupted(images[:], corruption).astype(np.float32)
        for name, model in models.items():
            probabilities = np.asarray(model.predict(changed))
            if probabilities.shape[1:] != (classes,):
                raise UserError(f"{name} does not tell {classes} classes apart: see --files")
            error = round(top1_error(probabilities, labels), 2)
            gap = round(calibration_error(probabilities, labels), 2)
            rows.append((name, corruption, len(labels), error, gap))
            print(f"{name}, {corruption}: {error:.2f} % error", flush=True)
            if corruption == "clean":
                examples[name] = probabilities[:SHOWN]
    columns = ["file", "corruption", "images", "error", "calibration_error"]
    table = pd.DataFrame(rows, columns=columns)
    config.out.mkdir(parents=True, exist_ok=True)
    write_csv(config.out / "robustness.csv", table)
    figure = draw(images[:SHOWN], labels[:SHOWN], dataset.source.labels, examples)
    write_atomically(config.out / "examples.png", png(figure))
    write_atomically(config.out / "README.md", page(table, config.dataset).encode())


def _load(path: Path) -> Interpreter:
    try:
        return Interpreter(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def page(table: pd.DataFrame, dataset: str) -> str:
    """The results as a page."""
    errors = table.pivot(index="corruption", columns="file", values="error").loc[list(CORRUPTIONS)]
    gaps = table.pivot(index="corruption", columns="file", values="calibration_error")
    names = list(dict.fromkeys(table.file))
    kinds = list(CORRUPTIONS)[1:]

    def cells(values: pd.DataFrame, row: str) -> list[str]:
        return [f"{values.loc[row, name]:.2f}" for name in names]

    rows = [(kind, *cells(errors, kind)) for kind in CORRUPTIONS]
    means = [f"{errors.loc[kinds, name].mean():.2f}" for name in names]
    rows.append(("mean of the corruptions", *means))
    calibrations = [
        ("calibration error, clean", *cells(gaps, "clean")),
        (
            "calibration error, mean of the corruptions",
            *(f"{gaps.loc[kinds, name].mean():.2f}" for name in names),
        ),
    ]
    header = ["percent", *(f"{name.replace('_litert', '')}:" for name in names)]
    return f"""# What the files' answers are worth

{markdown(header, [*rows, *calibrations])}

Top-1 error on {table.images.max():,} test images of {dataset}, clean and under CIFAR-10-C's
corruptions at severity 3, and the expected calibration error ({BINS} bins): how far the highest
probability is from how often it is right. One network each. Written by
`python -m training.robustness`; every number is a row of `robustness.csv`.

![The first {SHOWN} test images, and what each file says](examples.png)
"""


def draw(
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    answers: Mapping[str, np.ndarray],
) -> Figure:
    """Images with their labels, and below each what every file says and how sure it is of it."""
    count = len(images)
    below = 0.1 + 0.3 * len(answers)  # inches
    figure = Figure(figsize=(1.3 * count + 2.3, 1.5 + below))
    sides = {"left": 2.6 / (1.3 * count + 2.3), "right": 0.995, "wspace": 0.08}
    figure.subplots_adjust(**sides, top=1 - 0.28 / (1.5 + below), bottom=below / (1.5 + below))
    for number, axes in enumerate(np.atleast_1d(figure.subplots(1, count))):
        axes.imshow(images[number])
        axes.set_title(names[labels[number]], fontsize=10, fontweight="bold")
        axes.axis("off")
        for line, (file, probabilities) in enumerate(answers.items()):
            chosen = int(probabilities[number].argmax())
            text = f"{names[chosen]} {100 * probabilities[number, chosen]:.0f} %"
            axes.text(
                *(0.5, -0.08 - 0.24 * line, text),
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=9,
                color="tab:green" if chosen == labels[number] else "tab:red",
            )
            if number == 0:
                name = file.replace("_litert", "")
                axes.text(
                    *(-0.35, -0.08 - 0.24 * line, name),
                    transform=axes.transAxes,
                    ha="right",
                    va="top",
                    fontsize=9,
                )
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(RobustnessConfig, "python -m training.robustness", __doc__, arguments)
    with ending("training.robustness", "nothing was written"):
        work(config)
    print(f"done: {config.out / 'README.md'}")
