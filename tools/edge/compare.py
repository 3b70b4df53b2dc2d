"""Measures the edge runtime against float XNNPACK and against Larq Compute Engine's interpreter.

    python tools/edge/compare.py --width 64 --threads 1

builds the fully binary SE-ResNet-14 and its float32 counterpart with random weights, converts them,
and lets the candidates take turns: the same inference on each, round after round, so that what else
the machine does meets all of them alike. It prints the ratio to float XNNPACK of each round, as
median and 10th to 90th percentile. `--layer` measures one large layer with one and two threads, and
`--share FILE` a file, each thread on a CPU of its own: where other work waits for both CPUs, the
system may leave two threads on one for longer than an inference takes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from larq_seresnet.edge import Interpreter


def networks(width: int) -> tuple[bytes, bytes]:
    """The float32 network and the fully binary one, as files."""
    import larq_compute_engine as lce
    import tensorflow as tf

    from larq_seresnet import models

    tf.keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype(np.float32)
    files = []
    for build, options in [
        (models.SEResNet14, {}),
        (models.SEResNet14Bin, {"activations": "binary"}),
    ]:
        model = build(width=width, **options)
        for layer in model.submodules:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.momentum = 0.0
        for _ in range(3):
            model(images, training=True)
        files.append(lce.convert_keras_model(model))
    return files[0], files[1]


def ours(file: bytes, threads: int, x: np.ndarray) -> Callable[[], Any]:
    """One inference on LiteRT, with the delegate where the file needs it."""
    model = Interpreter(file, threads)
    model.predict(x)
    return model._runtime.invoke


def lce(file: bytes, threads: int, x: np.ndarray, **options: bool) -> Callable[[], Any]:
    """One inference on Larq Compute Engine's interpreter."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

    interpreter = LceInterpreter(file, num_threads=threads, **options)
    return lambda: interpreter.interpreter.predict([x])


def take_turns(candidates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """The seconds of each round, by candidate."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 5):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if number >= 5:  # the first ones warm caches
                times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def report(title: str, times: dict[str, np.ndarray]) -> dict[str, Any]:
    """Prints a table, the first candidate being the measure, and returns it."""
    first = next(iter(times.values()))
    rows = []
    print(f"\n{title}\n")
    print("| | median ms | times as fast | 10 % to 90 % |\n|---|---|---|---|")
    for name, seconds in times.items():
        low, ratio, high = np.percentile(first / seconds, [10, 50, 90])
        median = 1000 * float(np.median(seconds))
        print(f"| {name} | {median:.3f} | {ratio:.2f} | {low:.2f} to {high:.2f} |")
        rows.append({"name": name, "median_ms": median, "ratio": ratio, "p10": low, "p90": high})
    return {"title": title, "rows": rows}


def compare_networks(width: int, threads: int, rounds: int, with_lce: bool) -> dict[str, Any]:
    """The fully binary network against float32 and against Larq Compute Engine."""
    floating, binary = networks(width)
    x = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    candidates = {
        "float32 file, XNNPACK": ours(floating, threads, x),
        "fully binary file, this runtime": ours(binary, threads, x),
    }
    for options in (
        (
            {},
            {"use_indirect_bgemm": True},
            {"use_xnnpack": True},
            {"use_indirect_bgemm": True, "use_xnnpack": True},
        )
        if with_lce
        else ()
    ):
        name = ", ".join(options) or "default"
        candidates[f"fully binary file, LCE's interpreter ({name})"] = lce(
            binary, threads, x, **options
        )
    title = f"width {width}, {threads} thread(s), {rounds} rounds"
    return report(title, take_turns(candidates, rounds))


def compare_threads(rounds: int) -> dict[str, Any]:
    """One large layer with one and with two threads."""
    from tools.edge.lce_files import Conv

    case = Conv(channels=256, filters=256, size=(56, 56))
    file, x = case.file(), case.example()
    candidates = {f"{n} thread(s)": ours(file, n, x) for n in (1, 2)}
    title = f"LceBconv2d, 256 to 256 channels, 3x3, at 56x56, {rounds} rounds"
    return report(title, take_turns(candidates, rounds))


def compare_sharing(path: Path, rounds: int) -> dict[str, Any]:
    """A file with one and with two threads, 20 inferences a turn, of which the last 15 count."""
    models = [Interpreter(path, threads) for threads in (1, 2)]
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), {int(int(task.name) != os.getpid())})
    shape = [abs(size) for size in models[0].inputs[0].shape]
    x = np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)
    times: dict[str, list[float]] = {"1 thread": [], "2 threads": []}
    for _ in range(rounds):
        for model, row in zip(models, times.values(), strict=True):
            turn = []
            model.predict(x)
            for _ in range(20):
                start = time.perf_counter()
                model._runtime.invoke()
                turn.append(time.perf_counter() - start)
            row.append(float(np.median(turn[5:])))
    # Where other work holds a CPU, the second thread comes too late for most of the operators.
    title = f"{path.name}, the fastest twentieth of {rounds} turns"
    kept = max(1, rounds // 20)
    return report(title, {name: np.sort(row)[:kept] for name, row in times.items()})


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--no-lce",
        action="store_true",
        help="leave Larq Compute Engine's interpreter out: its threads go on spinning after an "
        "inference, which slows down whoever runs next",
    )
    parser.add_argument("--layer", action="store_true", help="one large layer, 1 and 2 threads")
    parser.add_argument("--share", type=Path, help="a file, 1 and 2 threads")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    if arguments.share:
        result = compare_sharing(arguments.share, arguments.rounds)
    elif arguments.layer:
        result = compare_threads(arguments.rounds)
    else:
        result = compare_networks(
            arguments.width, arguments.threads, arguments.rounds, not arguments.no_lce
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
