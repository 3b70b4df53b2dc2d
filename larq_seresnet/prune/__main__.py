"""python -m larq_seresnet.prune MODEL --out FILE."""

import argparse
import sys
from pathlib import Path

from larq_seresnet import console
from larq_seresnet.files import replacing


def main(arguments: list[str] | None = None) -> int:
    """Prune; returns the exit status."""
    parser = console.parser("prune", "Remove the channels that binarized 0/1 gates leave off.")
    parser.add_argument("model", metavar="MODEL", help=console.SOURCE)
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
        "--leave-out",
        type=float,
        metavar="P",
        help="leave out the attention of blocks of which at least this share of the gates is on, "
        "of all images and channels (default: of none)",
    )
    console.add_images(parser)
    return console.run_command(parser, _prune, arguments)


def _prune(args: argparse.Namespace) -> None:
    if args.out.suffix != ".keras" or not args.out.parent.is_dir():
        raise ValueError(f"--out must be a .keras file in a folder that exists, not {args.out}")
    with console.silence():
        from larq_seresnet.prune.removal import remove
        from larq_seresnet.prune.selection import select
        from larq_seresnet.sources import load_with_images
    model, _, images = load_with_images(args.model, args.dataset, "train", args.images)
    with console.Progress("images") as progress:
        choices = select(model, images, args.threshold, args.leave_out, progress)
    pruned = remove(model, choices)
    with replacing(args.out) as file:
        pruned.save(file)
    print(
        "    module  channels  gates on  always off   removed  images on which other gates change"
    )
    for c in choices:
        removed = "left out" if c.left_out else c.removed.sum()
        print(
            f"{c.module:>10}  {len(c.removed):>8}  {100 * c.on:>6.1f} %  {c.never_on:>10}  "
            f"{removed:>8}  {c.changed:>8} of {len(images)}"
        )
    print(f"{model.count_params():,} weights before, {pruned.count_params():,} in {args.out}")


if __name__ == "__main__":
    sys.exit(main())
