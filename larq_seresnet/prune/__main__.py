"""python -m larq_seresnet.prune MODEL --out FILE."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from larq_seresnet.console import Progress, run_command, silence
from larq_seresnet.files import write_atomically


def main(arguments: list[str] | None = None) -> int:
    """Prune; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m larq_seresnet.prune",
        description="Remove the channels that binarized 0/1 gates leave off.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run folder of training.fit, a .keras file, or the name of a pretrained network",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .keras file")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="P",
        help="remove channels that are on for fewer than this share of the images; 0: only what "
        "changes no gate on any image (default: 0)",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="whose images (default: what the model was trained on)"
    )
    parser.add_argument("--images", type=int, metavar="N", help="only the first N of the images")
    args = parser.parse_args(arguments)
    return run_command(lambda: _prune(args))


def _prune(args: argparse.Namespace) -> None:
    if args.out.suffix != ".keras" or not args.out.parent.is_dir():
        raise ValueError(f"--out must be a .keras file in a folder that exists, not {args.out}")
    with silence():
        from larq_seresnet import sources
        from larq_seresnet.datasets import known_dataset, load_images
        from larq_seresnet.prune.removal import remove
        from larq_seresnet.prune.selection import select
    source = sources.load(args.model)
    dataset = known_dataset(args.model, source.metadata, args.dataset)
    with silence():
        images = load_images(dataset, "train", args.images)
    with Progress("images") as progress:
        choices = select(source.model, images, args.threshold, progress)
    pruned = remove(source.model, choices)
    with tempfile.TemporaryDirectory() as folder:
        pruned.save(Path(folder, "model.keras"))
        write_atomically(args.out, Path(folder, "model.keras").read_bytes())
    print(_table(choices, len(images)))
    print(
        f"{source.model.count_params():,} weights before, {pruned.count_params():,} in {args.out}"
    )


def _table(choices: Sequence[Any], images: int) -> str:
    lines = ["    module  channels  always off  removed  images on which other gates change"]
    lines += [
        f"{c.module:>10}  {len(c.removed):>8}  {c.never_on:>10}  {c.removed.sum():>7}  "
        f"{c.changed:>8} of {images}"
        for c in choices
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
