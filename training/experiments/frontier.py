"""The price of a bit: `python -m training.frontier`.

Every pretrained network of a data set becomes a `.tflite` file: with 1-bit weights as
`larq_seresnet.convert` writes it for Larq Compute Engine, and where its activations are float with
activations of int8 as well; with float ones in float32, and in int8 by LiteRT's own converter.
int8's ranges come from training images. The bytes of each, its top-1
error on the test split and the time of an inference on this machine become a table and a picture,
beside published files of others.
"""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from larq_seresnet import pretrained, sources
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import integer, run_conversion, writer
from larq_seresnet.convert.converters import run_converter
from larq_seresnet.datasets import top1_error
from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.benchmark import compare, cpu
from larq_seresnet.files import write_atomically
from training import UserError, flags
from training.command import ending
from training.experiments.records import write_csv
from training.flags import flag
from training.pictures import png
from training.tables import markdown
from training.trainer import data

# Published files, run on all 10,000 test images; their times were not measured.
OTHERS = {
    "cifar10": [
        ("MLPerf Tiny's ResNet-8", "int8", 98_496, 13.03),
        ("MLPerf Tiny's large ResNet", "int8", 512_024, 8.69),
    ]
}
LINES = {
    "1-bit weights": "o-",
    "1-bit weights, int8 activations": "D-",
    "fully binary": "s-",
    "int8": "^--",
    "float32": "v--",
}
_WITHOUT = ", without FMB"  # follows the kind of networks with 1-bit weights


@dataclass(frozen=True)
class FrontierConfig:
    """What `python -m training.frontier` is told; each field is a flag."""

    networks: tuple[str, ...] = flag(
        (),
        "names of pretrained networks, folders of runs or .keras files (default: all pretrained of "
        "the data set)",
    )
    dataset: str = flag("cifar10", "on whose test split")
    images: int | None = flag(None, "only the first N of the test images")
    calibration: int = flag(500, "training images from which int8 takes its ranges")
    runs: int = flag(200, "inferences of each file whose time is taken, in turns")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    out: Path = flag(Path("training/results/frontier"), "folder of the results")

    def __post_init__(self) -> None:
        flags.require_positive(self, "images", "calibration", "runs")


def work(config: FrontierConfig) -> None:
    """Measure, and write `frontier.csv`, `README.md` and `frontier.png`.

    Raises:
        UserError: The images are missing, or there is no such network of the data set.
    """
    names = config.networks or [x for x in pretrained.names() if x.endswith(f"-{config.dataset}")]
    if not names:
        raise UserError(f"there is no pretrained network of {config.dataset}: say --networks")
    dataset = data.load(config.dataset, config.data_dir)
    images, labels = data.first(dataset.test, config.images or len(dataset.test[1]))
    seen, _ = data.first(dataset.train, config.calibration)
    given = images[:].astype(np.float32)
    rows: list[tuple[str, str, int, int, int, float]] = []
    paths: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for kind, width, file in files(name, config.dataset, seen[:]):
                path = Path(folder) / f"{len(rows)}.tflite"
                path.write_bytes(file)
                paths.append(str(path))
                probabilities = Interpreter(path).predict(given)
                error = round(top1_error(np.asarray(probabilities), labels), 2)
                rows.append((name, kind, width, len(file), len(labels), error))
                print(f"{name}, {kind}: {len(file):,} bytes, {error:.2f} % error", flush=True)
        print(f"taking the time of {len(rows)} files", flush=True)
        times = pd.DataFrame(compare(paths, 1, config.runs))
    columns = ["network", "kind", "width", "bytes", "images", "error"]
    measured = ["median_ms", "p10_ms", "p90_ms"]
    table = pd.DataFrame(rows, columns=columns).join(times[measured].round(4))
    config.out.mkdir(parents=True, exist_ok=True)
    write_csv(config.out / "frontier.csv", table)
    write_atomically(config.out / "frontier.png", png(draw(table, config.dataset)))
    write_atomically(config.out / "README.md", page(table, config).encode())


def files(name: str, dataset: str, images: np.ndarray) -> Iterator[tuple[str, int, bytes]]:
    """Kind (of `LINES`, and whether it is without FMB), width and content of a network's files.

    Args:
        name: A pretrained network, the folder of a run, or a .keras file.
        dataset: What it must have learned, where that is known.
        images: Of the training split, (n, height, width, channels): for int8's ranges.

    Raises:
        UserError: There is no such network, or it has learned something else.
    """
    source = sources.load(name)
    if source.dataset not in (None, dataset):
        raise UserError(f"{name} has learned {source.dataset}, not {dataset}")
    network = Architecture.of(source.model)
    if network.model == "binary":
        kind = "1-bit weights" if network.activations == "float" else "fully binary"
        end = "" if network.fmb else _WITHOUT
        file = run_conversion(source.model, "lce", dataset=dataset).file
        yield f"{kind}{end}", network.width, file
        if network.activations == "float":
            file = writer.to_bytes(integer.quantize(source.model, images).graph)
            yield f"{kind}, int8 activations{end}", network.width, file
        return
    yield "float32", network.width, run_converter(source.model, "litert")
    yield "int8", network.width, run_converter(source.model, "int8", images)


def page(table: pd.DataFrame, config: FrontierConfig) -> str:
    """The results as a page."""
    header = ["network", "kind", "bytes:", "error (%):", "ms:", "10 to 90 %:"]
    rows: list[tuple[object, ...]] = [
        (
            *(x.network, x.kind, f"{x.bytes:,}", f"{x.error:.2f}"),
            *(f"{x.median_ms:.2f}", f"{x.p10_ms:.2f} to {x.p90_ms:.2f}"),
        )
        for x in table.sort_values("bytes").itertuples()
    ]
    rows += [
        (name, kind, f"{size:,}", f"{error:.2f}", "-", "-")
        for name, kind, size, error in OTHERS.get(config.dataset, [])
    ]
    return f"""# Error against bytes and time

{markdown(header, rows)}

![Error against bytes, and against time](frontier.png)

Top-1 error of the files on {table.images.max():,} test images of {config.dataset}, one network
each. Networks with 1-bit weights as Larq Compute Engine's files, those with activations of int8 as
LiteRT's (`convert --activations int8`); int8 by LiteRT's converter, its
ranges from {config.calibration} training images; all without metadata. Milliseconds of an inference
by `larq_seresnet.edge`, one thread of {cpu()}, the median of {config.runs}, all files in turns. The
last rows are published files, whose errors were measured on the same images, and whose times were
not. Written by `python -m training.frontier`; every number is a row of `frontier.csv`.
"""


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Error against the bytes of the file and against the time of an inference."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    bytes_axes, time_axes = figure.subplots(1, 2, sharey=True)
    for axes, column, unit in ((bytes_axes, "bytes", 1000), (time_axes, "median_ms", 1)):
        for (number, kind), end in itertools.product(enumerate(LINES), ("", _WITHOUT)):
            points = table[table.kind == kind + end].sort_values("width")
            if points.empty:
                continue
            at = points[column] / unit
            style = {"color": f"C{number}", "fillstyle": "none" if end else "full"}
            axes.plot(at, points.error, LINES[kind], ms=6, label=kind + end, **style)
            for x, y, width in zip(at, points.error, points.width, strict=True):
                place = (5, -11 if end else 4)
                axes.annotate(width, (x, y), place, textcoords="offset points", fontsize=8)
        axes.set(xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.12)
        axes.grid(alpha=0.2)
    for name, _, size, error in OTHERS.get(dataset, []):
        bytes_axes.plot(size / 1000, error, "x", color="black")
        beside = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "size": 8}
        bytes_axes.annotate(name.replace("'s ", "'s\n"), (size / 1000, error), **beside)
    bytes_axes.set(xlabel="kB of the file", ylabel=f"top-1 error on {dataset}'s test split (%)")
    time_axes.set(xlabel="ms of an inference, one thread of a PC")
    time_axes.legend(title="width beside each point", fontsize="small", loc="upper right")
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(FrontierConfig, "python -m training.frontier", __doc__, arguments)
    with ending("training.frontier", "nothing was written"):
        work(config)
    print(f"done: {config.out / 'README.md'}")
