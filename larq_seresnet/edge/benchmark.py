"""The command `benchmark`."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError, RuntimeMissingError, printable
from larq_seresnet.edge.interpreter import Interpreter
from larq_seresnet.edge.native_library import used_kernels
from larq_seresnet.edge.tensors import TensorInfo

_WARM_UP = 5


@dataclass(frozen=True)
class Benchmark:
    """Measure the latency of one model or compare several.

    The models take turns, so that what else the machine does meets all of them alike: the ratios
    mean more than the times.
    """

    models: list[str] = field(metadata={"help": "a .tflite file", "many": True})
    threads: int = field(default=1, metadata={"help": "CPU threads"})
    runs: int = field(default=100, metadata={"help": "inferences of each model"})
    json: bool = field(default=False, metadata={"help": "print JSON"})

    def run(self) -> int:
        """Returns the exit status."""
        if self.runs < 1:
            raise ValueError("--runs must be at least 1")
        reports = compare(self.models, self.threads, self.runs)
        machine = {"cpu": cpu(), "kernels": _kernels()}
        if self.json:
            settings = {**machine, "threads": self.threads, "runs": self.runs}
            print(json.dumps({**settings, "models": reports}))
        else:
            print(
                f"CPU: {machine['cpu']}; kernels of binary layers: {machine['kernels'] or 'none'}"
            )
            _print_table(reports, self.threads, self.runs)
        return 0


def compare(models: Sequence[str], threads: int, runs: int) -> list[dict[str, Any]]:
    """What `--json` says of each model; they take turns."""
    candidates = []
    for path in models:
        try:
            candidates.append(_Candidate(path, threads))
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
    for _ in range(_WARM_UP):
        for candidate in candidates:
            candidate.measure()
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(runs):
        for candidate, measured in zip(candidates, times, strict=True):
            measured.append(candidate.measure())
    return [
        {**candidate.report(), **_statistics(measured, times[0])}
        for candidate, measured in zip(candidates, times, strict=True)
    ]


class _Candidate:
    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        before = _resident_bytes()
        self.interpreter = Interpreter(path, threads)
        self.inputs = [_random_input(info) for info in self.interpreter.inputs]
        self.measure()  # the runtime sets up some memory at the first inference
        after = _resident_bytes()
        self.memory = None if before is None or after is None else max(0, after - before)

    def measure(self) -> float:
        x: Any = self.inputs[0] if len(self.inputs) == 1 else self.inputs
        start = time.perf_counter()
        self.interpreter.predict(x)
        return time.perf_counter() - start

    def report(self) -> dict[str, Any]:
        return {
            "model": self.path,
            "file_bytes": Path(self.path).stat().st_size,
            "memory_bytes": self.memory,
        }


def _random_input(info: TensorInfo) -> np.ndarray:
    shape = [1 if size == -1 else size for size in info.shape]
    random = np.random.default_rng(0)
    if info.dtype.kind == "f":
        return (255 * random.random(shape, np.float32)).astype(info.dtype)
    if info.dtype.kind not in "biu":
        raise ModelError(f"input '{info.name}' takes no numbers")
    return random.integers(0, 2 if info.dtype == bool else 100, shape, np.int8).astype(info.dtype)


def cpu() -> str:
    """The CPU's name, or on a Raspberry Pi the machine's; else only the kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    entries = dict(line.partition(":")[::2] for line in lines)
    named = {key.strip(): value.strip() for key, value in entries.items()}
    found = named.get("model name") or named.get("Model") or platform.processor()
    return printable(found or platform.machine())


def _kernels() -> str | None:
    """What binary layers run on; None where the native library is missing."""
    try:
        return used_kernels()
    except (OSError, RuntimeMissingError):
        return None


def _resident_bytes() -> int | None:
    """Memory of this process, where the system tells it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _statistics(times: list[float], first: list[float]) -> dict[str, float]:
    low, median, high = np.percentile(times, [10, 50, 90])
    ratio_low, ratio, ratio_high = np.percentile(np.divide(first, times), [10, 50, 90])
    return {
        "median_ms": 1000 * median,
        "p10_ms": 1000 * low,
        "p90_ms": 1000 * high,
        "speedup": ratio,
        "speedup_p10": ratio_low,
        "speedup_p90": ratio_high,
    }


def _print_table(reports: list[dict[str, Any]], threads: int, runs: int) -> None:
    print(f"{threads} thread(s), {runs} runs of each model, taking turns")
    print("  median ms  (10 % to 90 %)     times as fast as the first      file KiB  memory KiB")
    for report in reports:
        memory = "?" if report["memory_bytes"] is None else f"{report['memory_bytes'] / 1024:.0f}"
        print(
            f"{report['median_ms']:11.3f}  ({report['p10_ms']:.3f} to {report['p90_ms']:.3f})"
            f"{report['speedup']:14.2f}  ({report['speedup_p10']:.2f} to "
            f"{report['speedup_p90']:.2f})"
            f"{report['file_bytes'] / 1024:14.1f}{memory:>12}  {report['model']}"
        )
