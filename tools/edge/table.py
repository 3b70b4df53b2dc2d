"""The table of how fast the networks run: float32, int8, 1-bit weights, fully binary.

    python tools/edge/table.py --rounds 100 --emulation DIRECTORY --json FILE

takes the files of tflite_models (width 16) and networks of random weights (width 64), and prints
their times with one and with two threads and the instructions of one inference. The int8 files are
LiteRT's own quantization of the float32 network.

Times: each file runs in a process of its own, since XNNPACK's threads go on spinning behind an
inference and would slow down the next candidate. The processes take turns, ten inferences each, and
ratios are of the same round. Binary layers run on each of the kernels that the CPU has; XNNPACK
always takes the CPU's best, so a row of AVX2 kernels on a CPU with AVX-512 flatters float32.

Instructions, where valgrind is installed: x86 ones, of a CPU that has AVX2 and no AVX-512, which
holds for XNNPACK too. With the folder of tools/edge/emulation.sh those of a Cortex-A72, too. They
tell how much work there is, not how long it takes.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

SHIPPED = {
    "float32": "seresnet14_cifar10_litert",
    "1-bit weights": "seresnet14_bin_cifar10_lce",
    "1-bit weights, litert": "seresnet14_bin_cifar10_litert",
    "fully binary": "seresnet14_fully_binary_cifar10_lce",
    "fully binary, litert": "seresnet14_fully_binary_cifar10_litert",
}
_INFERENCES = 10  # a turn
_REST = 0.02  # seconds until threads that spin have gone to sleep
_CODE = """
import sys
import numpy as np
from larq_seresnet.edge import Interpreter
model = Interpreter(sys.argv[1])
x = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
model.predict(x)
for _ in range(int(sys.argv[2])):
    model._runtime.invoke()
"""


def networks(width: int) -> dict[str, bytes]:
    """The files of a width, by what they are."""
    import tensorflow as tf

    from larq_seresnet import models
    from larq_seresnet.convert import convert

    tf.keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype(np.float32)

    def calibrated(model: Any) -> Any:
        for layer in model.submodules:  # the statistics of a new network give astronomic logits
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.momentum = 0.0
        for _ in range(3):
            model(images, training=True)
        return model

    floating = calibrated(models.SEResNet14(width=width))
    converter = tf.lite.TFLiteConverter.from_keras_model(floating)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    files = {"int8": converter.convert()}
    if width == 16:
        folder = REPOSITORY / "tflite_models"
        return {n: (folder / f"{f}.tflite").read_bytes() for n, f in SHIPPED.items()} | files
    files = {"float32": convert(floating, target="litert"), **files}
    for name, activations in (("1-bit weights", "float"), ("fully binary", "binary")):
        model = calibrated(models.SEResNet14Bin(width=width, activations=activations))
        files[name] = convert(model, target="lce")
    return files


def serve(connection: Any, file: bytes, threads: int, kernels: str) -> None:
    """A process that measures a turn whenever it is asked to."""
    if kernels:
        os.environ["LARQ_SERESNET_KERNELS"] = kernels
    from larq_seresnet.edge import Interpreter

    model = Interpreter(file, threads)
    x = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    model.predict(x)
    connection.send(None)
    while connection.recv():
        times = []
        for _ in range(_INFERENCES):
            start = time.perf_counter()
            model._runtime.invoke()
            times.append(time.perf_counter() - start)
        connection.send(float(np.median(times)))


def take_turns(candidates: list[tuple[bytes, int, str]], rounds: int) -> np.ndarray:
    """Seconds of one inference, a row for each round."""
    context = multiprocessing.get_context("spawn")
    ends = []
    for candidate in candidates:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, *candidate), daemon=True).start()
        ours.recv()
        ends.append(ours)
    rows = []
    for _ in range(rounds + 2):  # the first ones warm caches
        row = []
        for end in ends:
            time.sleep(_REST)
            end.send(True)
            row.append(end.recv())
        rows.append(row)
    for end in ends:
        end.send(False)
    return np.array(rows[2:])


def kernels() -> list[str]:
    """The names of the kernels that this CPU has, but for the portable ones."""
    from larq_seresnet.edge.native_library import native_library
    from tests.edge.running import available_kernels

    return available_kernels(native_library())[1:] or [""]


def measure(width: int, files: dict[str, bytes], rounds: int) -> Iterator[dict[str, Any]]:
    """Rows of times."""
    for threads in (1, 2):
        names = [(name, "") for name in files if "binary" not in name]
        names += [(name, kind) for name in files if "binary" in name for kind in kernels()]
        times = take_turns([(files[name], threads, kind) for name, kind in names], rounds)
        base = times[:, names.index(("float32", ""))]
        for (name, kind), column in zip(names, times.T, strict=True):
            low, ratio, high = np.percentile(base / column, [10, 50, 90])
            yield {
                "width": width, "network": name, "kernels": kind, "threads": threads,
                "min_ms": 1000 * column.min(), "median_ms": 1000 * float(np.median(column)),
                "times_as_fast": ratio, "p10": low, "p90": high,
            }  # fmt: skip


def x86_instructions(file: bytes, inferences: int = 10) -> float:
    """Of one inference, as valgrind counts them: the difference of many and few."""
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(file)
        for number in (1, 1 + inferences):
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
            command += [sys.executable, "-c", _CODE, str(path), str(number)]
            environment = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
            result = subprocess.run(
                command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
            )
            totals.append(int(re.search(r"Collected : (\d+)", result.stderr)[1]))  # type: ignore[index]
    return (totals[1] - totals[0]) / inferences


def main() -> None:
    """Runs the command."""
    from larq_seresnet.edge.benchmark import cpu
    from tools.edge.instructions import count

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="0 leaves the times out")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--emulation", type=Path, help="the folder of tools/edge/emulation.sh")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    print(f"{cpu()}, {arguments.rounds} rounds of {_INFERENCES} inferences\n")
    report: dict[str, Any] = {"cpu": cpu(), "rounds": arguments.rounds, "times": []}
    report["instructions"] = []
    files = {width: networks(width) for width in arguments.widths}
    if arguments.rounds:
        print(
            "| width | network | kernels | threads | min ms | median ms | times float32 | 10-90 % |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for width in arguments.widths:
            for row in measure(width, files[width], arguments.rounds):
                report["times"].append(row)
                print(
                    f"| {width} | {row['network']} | {row['kernels']} | {row['threads']} | "
                    f"{row['min_ms']:.3f} | {row['median_ms']:.3f} | {row['times_as_fast']:.2f} | "
                    f"{row['p10']:.2f} to {row['p90']:.2f} |",
                    flush=True,
                )
    counters = {"x86, AVX2": x86_instructions} if shutil.which("valgrind") else {}
    if arguments.emulation:
        emulation = arguments.emulation.resolve()
        counters["aarch64"] = lambda file: count(emulation, file, 10)
    if counters:
        print("\n| width | network | CPU | million instructions | float32 takes |")
        print("|---|---|---|---|---|")
    for machine, counter in counters.items():
        for width in arguments.widths:
            base = counter(files[width]["float32"])
            for name, file in files[width].items():
                number = base if name == "float32" else counter(file)
                report["instructions"].append(
                    {"width": width, "network": name, "cpu": machine, "instructions": number}
                )
                print(
                    f"| {width} | {name} | {machine} | {number / 1e6:.2f} | {base / number:.2f} "
                    "times |",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
