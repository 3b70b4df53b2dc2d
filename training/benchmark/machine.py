"""What the measurement ran on."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
PACKAGES = ("tensorflow", "tf-keras", "larq", "numpy", "torch")


def describe() -> dict[str, Any]:
    """CPU, cores, memory and versions; what the system does not tell is left out."""
    cpu = _fields(Path("/proc/cpuinfo"))
    memory = _fields(Path("/proc/meminfo")).get("MemTotal")
    found = {
        package.name.lower().replace("_", "-") for package in importlib.metadata.distributions()
    }
    return {
        "system": platform.platform(),
        "cpu": cpu.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "cpu_flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "memory": memory,
        "load_average_before": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES if name in found},
        },
    }


def _fields(path: Path) -> dict[str, str]:
    """The first value of each `name : value` line."""
    if not path.exists():
        return {}
    fields: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields
