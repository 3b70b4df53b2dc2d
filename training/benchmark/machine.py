"""What the measurement ran on."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from training import processor

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
PACKAGES = ("tensorflow", "tf-keras", "larq", "numpy", "torch")


def describe() -> dict[str, Any]:
    """CPU, cores, memory and versions; what the system does not tell is left out."""
    cpu = _fields(Path("/proc/cpuinfo"))
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        if importlib.metadata.packages_distributions().get(name.replace("-", "_")):
            versions[name] = importlib.metadata.version(name)
    return {
        "system": platform.platform(),
        "cpu": cpu.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "cpu_flags": [flag for flag in FLAGS if flag in processor.features()],
        "emulated": processor.is_emulated(),
        "onednn": processor.onednn(),
        "memory": _fields(Path("/proc/meminfo")).get("MemTotal"),
        "load_average_before": os.getloadavg()[0],
        "versions": versions,
    }


def _fields(path: Path) -> dict[str, str]:
    """The `name : value` lines, of several CPUs the last's."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
