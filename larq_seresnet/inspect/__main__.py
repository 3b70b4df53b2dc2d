"""python -m larq_seresnet.inspect MODEL..."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import io
import sys
from pathlib import Path

from larq_seresnet.console import Progress, run_command, silence
from larq_seresnet.files import write_atomically


def main(arguments: list[str] | None = None) -> int:
    """Inspect; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m larq_seresnet.inspect",
        description="Show how often the gates of squeeze-and-excitation leave each channel on.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="a run folder of training.fit, a .keras file, or the name of a pretrained network",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="whose images (default: what the model was trained on)"
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="train", help="(default: train)"
    )
    parser.add_argument("--images", type=int, metavar="N", help="only the first N of the images")
    parser.add_argument("--json", action="store_true", help="print JSON, with every channel")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row a channel")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write channels x depth, PNG")
    args = parser.parse_args(arguments)
    return run_command(lambda: _inspect(args))


def _inspect(args: argparse.Namespace) -> None:
    with silence():
        from larq_seresnet import sources
        from larq_seresnet.datasets import known_dataset, load_images
        from larq_seresnet.inspect import gate_statistics, tables
    networks = {}
    for name in args.models:
        source = sources.load(name)
        dataset = known_dataset(name, source.metadata, args.dataset)
        with silence():
            images = load_images(dataset, args.split, args.images)
        with Progress(f"{Path(name).name}: images") as progress:
            networks[Path(name).name] = gate_statistics(source.model, images, progress)
    facts = {"dataset": dataset, "split": args.split, "count": len(images)}
    print(tables.as_json(networks, facts) if args.json else tables.as_text(networks))
    if args.csv:
        write_atomically(args.csv, tables.as_csv(networks).encode())
    if args.picture:
        from larq_seresnet.inspect.picture import draw

        file = io.BytesIO()
        draw(networks).savefig(file, dpi=120)
        write_atomically(args.picture, file.getvalue())


if __name__ == "__main__":
    sys.exit(main())
