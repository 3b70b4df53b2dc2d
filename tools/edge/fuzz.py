"""Loads and runs damaged `.tflite` files, and tells what each of them did.

    python tools/edge/fuzz.py --files 2000 --sanitize --jobs 2

compiles the native delegate with AddressSanitizer and UndefinedBehaviorSanitizer, takes small files
of many operators, and either damages their bytes or makes them say something else that is
well-formed (so as to get past the reader and into the delegate). Forked children load and run them.
The outcomes:

    ran         the damage did no harm
    refused     a `ModelError`: the expected outcome
    exception   another Python exception: a fault of larq_seresnet.edge
    sanitizer   a sanitizer's report with the delegate in it: a fault of the native code
    runtime     the process died in the TFLite runtime: a fault of what larq_seresnet.edge lets pass
    slow        it took longer than the time limit

The exit status is 1 where there is a fault. Each day has a seed of its own, which is printed. A
file depends on the seed and its number alone: `--first NUMBER --files 1` makes it again.
"""

import argparse
import collections
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))
NATIVE = REPOSITORY / "larq_seresnet/edge/native"
FLAGS = ["-std=c11", "-O1", "-g", "-ffp-contract=off", "-fPIC", "-shared", "-pthread"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FAULTS = ("exception", "sanitizer", "runtime")
_SECONDS = 10
# What a file may ask for, and what the process may take for it, XNNPACK's copies and all.
_MODEL_BYTES, _PROCESS_BYTES = 1 << 30, 4 << 30
_BATCH, _PART = 50, 10_000  # files to a child, and to a line of the log


def build(folder: Path) -> Path:
    """Compiles the delegate with the sanitizers."""
    library = folder / "libdelegate_sanitized.so"
    sources = sorted(str(path) for path in NATIVE.glob("*.c"))
    subprocess.run(["gcc", *FLAGS, "-o", library, *sources, "-lm"], check=True)
    return library


def sanitized() -> int:
    """This command again, with the sanitizers: Python is without, so their library comes first."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("libasan.so", "libubsan.so")
        found = [
            subprocess.check_output(["gcc", f"-print-file-name={n}"], text=True) for n in names
        ]
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(map(str.strip, found)),
            "LARQ_SERESNET_DELEGATE": str(build(Path(folder))),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_abort=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        return subprocess.run([sys.executable, *sys.argv], env=environment).returncode


def versions() -> dict[str, str]:
    """What a line of the log is about."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    names = ("ai-edge-litert", "numpy")
    return {"commit": commit, **{name: importlib.metadata.version(name) for name in names}}


def make(seed: int, number: int) -> bytes:
    """A wrong file."""
    from tools.edge.mutations import damage, distort
    from tools.edge.seed_files import seeds

    generator = random.Random(f"{seed}/{number}")
    original = generator.choice(generator.choice(seeds()))
    change = damage if generator.random() < 0.25 else distort
    return change(original, generator)


def use(file: bytes) -> str:
    """Loads a file, runs each of its signatures, and gives the outcome."""
    import numpy as np

    from larq_seresnet.edge import Interpreter, ModelError

    def run(model: Interpreter, free: int) -> None:
        shapes = [[free if size < 0 else size for size in info.shape] for info in model.inputs]
        if max(map(math.prod, shapes), default=0) > 1 << 24:
            return  # well-formed, and takes too long
        if any(info.dtype.kind == "S" for info in model.inputs):
            return
        inputs = [np.ones(s, i.dtype) for s, i in zip(shapes, model.inputs, strict=True)]
        model.predict(inputs if len(inputs) != 1 else inputs[0])

    try:
        model = Interpreter(file, threads=2)
        for key in model.signatures[1:]:
            run(Interpreter(file, signature=key), 1)
        run(model, 1)
        run(model, 2)
    except ModelError as error:
        print(error)
        return "refused"
    return "ran"


def limit() -> None:
    """Takes memory away from a child, and its core dump."""
    import resource

    from larq_seresnet.edge import memory

    memory._memory = lambda: _MODEL_BYTES
    # AddressSanitizer has reserved terabytes already.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _PROCESS_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def in_child(seed: int, numbers: list[int], log: Path) -> int:
    """The wait status of a forked process that does one file after the other."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    limit()
    for number in numbers:
        signal.alarm(_SECONDS)  # ends the process
        print(f"\n[file {number}]", flush=True)
        try:
            outcome = use(make(seed, number))
        except BaseException:
            traceback.print_exc()
            outcome = "exception"
        print(f"\n[{outcome}]", flush=True)
    os._exit(0)


def judge(status: int, output: str) -> str:
    """How a process ended that did not come to the end of a file."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "slow"
    # What the innermost frames belong to tells whose fault it is.
    frames = [line for line in output.splitlines() if line.lstrip().startswith("#")]
    ours = any("edge/native/" in line for line in frames) or "runtime error" in output
    return "sanitizer" if ours else "runtime"


def place(output: str) -> str:
    """The innermost function of the runtime, or the last line before a sanitizer's report."""
    plain = output.replace("(anonymous namespace)::", "")
    frames = re.findall(r"#\d+ 0x\w+ in (.*tflite::.*?)[(<]", plain)
    return (frames or output.split("\n\n")[0].splitlines()[-1:] or [""])[0]


def attempt(task: tuple[int, list[int]]) -> list[tuple[int, str, str]]:
    """Of each file its number, outcome and output."""
    seed, numbers = task
    results = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        while numbers:  # a file that ends its process leaves the rest to another one
            status = in_child(seed, numbers, log)
            parts = re.split(r"\n\[file (\d+)\]\n", log.read_text(errors="replace"))[1:]
            for number, output in zip(parts[::2], parts[1::2], strict=True):
                ended = re.search(r"\n\[(\w+)\]\n$", output)
                outcome = ended[1] if ended else judge(status, output)
                results.append((int(number), outcome, output))
            numbers = numbers[len(parts) // 2 :]
    return results


def batches(seed: int, first: int, files: int) -> Iterator[tuple[int, list[int]]]:
    """Tasks for `attempt`."""
    numbers = iter(range(first, first + files))
    while batch := list(itertools.islice(numbers, _BATCH)):
        yield seed, batch


def report(seed: int, number: int, outcome: str, output: str, keep: Path | None) -> None:
    """Tells of a file that did neither run nor was refused, and keeps it."""
    print(f"file {number}: {outcome} {place(output)}", flush=True)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        keep.joinpath(f"{seed}-{number}-{outcome}.tflite").write_bytes(make(seed, number))
        keep.joinpath(f"{seed}-{number}-{outcome}.txt").write_text(output)


def main() -> int:
    """Runs the command and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=date.today().toordinal())
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--sanitize", action="store_true", help="compile with sanitizers")
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    parser.add_argument("--log", type=Path, help="gets a line of JSON for each 10,000 files")
    arguments = parser.parse_args()
    if arguments.sanitize and "LD_PRELOAD" not in os.environ:
        return sanitized()
    from tools.edge.seed_files import seeds

    seed = arguments.seed
    print(f"seed {seed}", flush=True)
    if not all(use(file) == "ran" for group in seeds() for file in group):
        raise SystemExit("error: an undamaged file does not run")
    total: collections.Counter[str] = collections.Counter()
    end = arguments.first + arguments.files
    with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
        for first in range(arguments.first, end, _PART):
            files, start = min(_PART, end - first), time.monotonic()
            outcomes: collections.Counter[str] = collections.Counter()
            for results in pool.imap_unordered(attempt, batches(seed, first, files)):
                for number, outcome, output in results:
                    outcomes[outcome] += 1
                    if outcome not in ("ran", "refused"):
                        report(seed, number, outcome, output, arguments.keep)
            total += outcomes
            if arguments.log:
                line = {"seed": seed, "first": first, "files": files, **outcomes}
                line |= {"seconds": round(time.monotonic() - start), **versions()}
                with arguments.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
    for outcome, count in total.most_common():
        print(f"{outcome:10} {count}")
    return 1 if any(total[fault] for fault in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
