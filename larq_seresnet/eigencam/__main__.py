"""python -m larq_seresnet.eigencam MODEL IMAGE..."""

import argparse
import sys
from pathlib import Path
from typing import Any

from larq_seresnet import console
from larq_seresnet.files import replacing


def main(arguments: list[str] | None = None) -> int:
    """Draw heat maps; returns the exit status."""
    parser = console.parser(
        "eigencam",
        "Show where in images a layer's activations vary most: "
        "writes IMAGE's name + _eigencam.png for each.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"{console.SOURCE}: any Keras image model that takes raw pixels",
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path, help="PNG, JPEG, BMP, GIF or WebP"
    )
    parser.add_argument("--layer", metavar="NAME", help="(default: the last with feature maps)")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="made if need be (default: .)"
    )
    return console.run_command(parser, _draw, arguments)


def _draw(args: argparse.Namespace) -> None:
    names = [f"{path.stem}_eigencam.png" for path in args.images]
    if len(set(names)) < len(names):
        raise ValueError("two images have the same name: draw each into its own folder (--out)")
    args.out.mkdir(parents=True, exist_ok=True)
    with console.silence():
        from matplotlib import image as pictures

        from larq_seresnet import sources
        from larq_seresnet.edge.images import load_image
        from larq_seresnet.eigencam import eigencam
        from larq_seresnet.eigencam.overlay import overlay
    model = sources.load(args.model).model
    shape: Any = tuple(model.inputs[0].shape[1:]) if len(model.inputs or ()) == 1 else ()
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3):
        raise ValueError(f"the model takes no images of a fixed size: its input is {shape}")
    for path, name in zip(args.images, names, strict=True):
        image = load_image(path, *shape)
        heatmap = eigencam(model, image[None], args.layer)[0]
        with replacing(args.out / name) as file:
            pictures.imsave(file, overlay(image, heatmap))
        print(f"wrote {args.out / name}")


if __name__ == "__main__":
    sys.exit(main())
