"""python -m larq_seresnet.inspect MODEL..."""

import argparse
import sys
from pathlib import Path
from typing import Any

from larq_seresnet import console
from larq_seresnet.files import replacing, write_atomically


def main(arguments: list[str] | None = None) -> int:
    """Inspect; returns the exit status."""
    parser = console.parser(
        "inspect", "Show how often the gates of squeeze-and-excitation leave each channel on."
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help=console.SOURCE)
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="train", help="(default: train)"
    )
    console.add_images(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with every channel")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row a channel")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write channels x depth, PNG")
    return console.run_command(parser, _inspect, arguments)


def _inspect(args: argparse.Namespace) -> None:
    for path in filter(None, (args.csv, args.picture)):
        console.require_folder(path)
    with console.silence():
        from larq_seresnet.inspect import gate_statistics, tables
        from larq_seresnet.sources import load_with_images
    networks = {}
    facts: dict[str, Any] = {}
    names = [Path(path).name for path in args.models]
    if len(set(names)) < len(names):
        names = args.models
    for name, path in zip(names, args.models, strict=True):
        model, dataset, images = load_with_images(path, args.dataset, args.split, args.images)
        seen = {"dataset": dataset, "split": args.split, "count": len(images)}
        if args.json and facts not in ({}, seen):
            raise ValueError(f"{name} has other images, and --json tells of one set: say --dataset")
        facts = seen
        with console.Progress(f"{name}: images") as progress:
            networks[name] = gate_statistics(model, images, progress)
    print(tables.as_json(networks, facts) if args.json else tables.as_text(networks))
    if args.csv:
        write_atomically(args.csv, tables.as_csv(networks).encode())
    if args.picture:
        from larq_seresnet.inspect.picture import draw

        with replacing(args.picture) as file:
            draw(networks).savefig(file, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(main())
