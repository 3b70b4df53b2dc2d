"""What converting takes, beside the bare converters: seconds of CPU time, and peak memory.

    python tools/convert/cost.py OUT.json

Each in a process of its own, on a network of 12 million weights and 20 images.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

WIDTH, IMAGES = 128, 20
NETWORKS, TARGETS = ("float", "binary"), ("lce", "litert")


def measured(activations: str, target: str, bare: bool) -> dict[str, float]:
    """The cost of one conversion in this process."""
    import numpy as np

    from larq_seresnet.convert import converters, run_conversion
    from larq_seresnet.models import SEResNet14Bin

    model = SEResNet14Bin(width=WIDTH, activations=activations)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3)).astype(np.float32)
    for layer in model.submodules:
        if hasattr(layer, "moving_mean"):
            layer.momentum = 0.0
    model(images, training=True)
    start, before = time.process_time(), _peak()
    if bare:
        converters.run_converter(model, target)
    else:
        run_conversion(model, target, images=images)
    return {
        "weights": model.count_params(),
        "cpu_seconds": round(time.process_time() - start, 1),
        "peak_mib": _peak(),
        "peak_before_mib": before,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Measure all, or one in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "TARGET", "WHAT"))
    args = parser.parse_args()
    if args.one:
        network, target, what = args.one
        args.out.write_text(json.dumps(measured(network, target, what == "bare")))
        return
    results = {}
    for network in NETWORKS:
        for target in TARGETS:
            for what in ("bare", "whole"):
                one = ["--one", network, target, what]
                subprocess.run([sys.executable, __file__, args.out, *one], check=True)
                results[f"{network} {target} {what}"] = json.loads(args.out.read_text())
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
