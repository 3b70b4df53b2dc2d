"""What this CPU can do, and what TensorFlow is told about it before it is imported.

`LARQ_SERESNET_CPU=avx2` makes of a larger x86 CPU one that has AVX2 alone, for TensorFlow's
convolutions, PyTorch and the compiled kernels: to measure what others have.
"""

import os
import platform
import sys
from pathlib import Path

EMULATED = "LARQ_SERESNET_CPU"
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def features() -> frozenset[str]:
    """The CPU's flags as Linux calls them; elsewhere nothing says what they are."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    found = frozenset(line.partition(":")[2].split())
    if is_emulated():
        return frozenset(x for x in found if not x.startswith(("avx512", "avx_vnni", "amx")))
    return found


def is_emulated() -> bool:
    """Whether only AVX2 is to be used.

    Raises:
        ValueError: The variable says something else.
    """
    value = os.environ.get(EMULATED, "")
    if value not in ("", "avx2"):
        raise ValueError(f"{EMULATED} must be avx2 or unset, not {value}")
    return bool(value)


def compiler_flags() -> list[str]:
    """What g++ and clang++ are told."""
    if is_emulated():
        return ["-mavx2", "-mfma"]
    wide = ["-mprefer-vector-width=512"] if "avx512f" in features() else []
    return ["-march=native", *wide]


def onednn_by_default() -> bool:
    """Whether TensorFlow would use oneDNN of itself: it does where a CPU is made for networks."""
    return bool(features() & _BY_DEFAULT)


def onednn() -> bool:
    """Whether TensorFlow uses oneDNN."""
    return os.environ.get(_ONEDNN, str(int(onednn_by_default()))).lower() in ("1", "true")


_USERS = os.environ.get(_ONEDNN)  # before `prepare`


def prepare() -> None:
    """Set what is fastest, where the user has not set it; before TensorFlow is imported.

    Without oneDNN convolutions go through Eigen, which is slower.
    """
    try:
        if is_emulated():
            os.environ.update(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    except ValueError as error:
        sys.exit(f"error: {error}")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault(_ONEDNN, "1")


def as_users_have_it() -> dict[str, str]:
    """The environment of a process that trains without this package's choice."""
    return {_ONEDNN: _USERS or str(int(onednn_by_default()))}


def describe(precision: str, kernels: str, shards: int) -> str:
    """What training uses of this CPU, in a line."""
    wide = ("amx_bf16", "avx512f", "avx2", "asimd")
    best = next((name for name in wide if name in features()), platform.machine())
    parts = [best.replace("_", "-"), f"oneDNN {'on' if onednn() else 'off'}"]
    parts += [precision, f"{kernels} kernels", f"{shards} shard{'s' * (shards > 1)} of a batch"]
    return ", ".join(parts)
