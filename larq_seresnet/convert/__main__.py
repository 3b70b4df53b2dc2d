"""python -m larq_seresnet.convert SOURCE --target lce|litert --out FILE."""

import argparse
import logging
import sys
from pathlib import Path

from larq_seresnet import console
from larq_seresnet.errors import UserError
from larq_seresnet.files import write_atomically


def main(arguments: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    parser = console.parser(
        "convert", "Convert a network to a .tflite file that holds 1 bit a binary weight."
    )
    parser.add_argument("source", metavar="SOURCE", help=console.SOURCE)
    parser.add_argument(
        "--target",
        required=True,
        choices=("lce", "litert"),
        help="lce: Larq Compute Engine; litert: any stock TFLite or LiteRT",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the .tflite file")
    parser.add_argument(
        "--input",
        choices=("float32", "uint8"),
        default="float32",
        help="type of the images; uint8: bytes, 0 to 255 (default: float32)",
    )
    parser.add_argument(
        "--input-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="what the network takes for a black and a white pixel, such as 0 1 (default: what its "
        "own normalization tells)",
    )
    parser.add_argument(
        "--float-weights",
        choices=("float16", "int8"),
        help="round the kernels that are not quantized; how that changes the outputs is shown",
    )
    parser.add_argument(
        "--activations",
        choices=("int8",),
        help="for litert: integer arithmetic, which 1-bit weights need no more bytes for; how that "
        "changes the outputs is shown",
    )
    parser.add_argument(
        "--examples",
        metavar="DATASET",
        help="whose training images tell int8's ranges (default: what the network was trained on)",
    )
    parser.add_argument(
        "--no-lce-check",
        dest="lce_check",
        action="store_false",
        help="verify an lce file with larq_seresnet.edge, which also runs grouped binary "
        "convolutions, instead of Larq Compute Engine's interpreter",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="show where the bytes are, beside the other converters' files of the same network",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    return console.run_command(parser, _convert, arguments)


def _convert(args: argparse.Namespace) -> None:
    log = logging.getLogger("larq_seresnet.convert")
    console.require_folder(args.out)
    if args.out.is_dir() or args.out.resolve() == Path(args.source).resolve():
        raise UserError(f"--out {args.out} is no new file: name one, such as model.tflite")
    log.info("loading %s", args.source)
    with console.silence():  # TensorFlow talks about GPUs it does not find
        from larq_seresnet import sources
        from larq_seresnet.convert import report, run_conversion
    source = sources.load(args.source)
    conversion = run_conversion(
        source.model,
        args.target,
        input_type=args.input,
        input_range=args.input_range,
        float_weights=args.float_weights,
        activations=args.activations,
        examples=args.examples,
        lce_check=args.lce_check,
        dataset=source.dataset,
        metadata=source.metadata,
    )
    shown = ""
    if args.report or args.json:
        log.info("comparing sizes")
        sizes = report.compare_sizes(conversion, args.target)
        shown = report.as_json(sizes) if args.json else report.as_table(sizes)
    write_atomically(args.out, conversion.file)
    log.info("wrote %s: %d bytes", args.out, len(conversion.file))
    if shown:
        print(shown)


if __name__ == "__main__":
    sys.exit(main())
