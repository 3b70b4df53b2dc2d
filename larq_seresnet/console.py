"""What reaches the screen, and what the commands of this package share."""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from larq_seresnet.edge.errors import reason, written_output

SOURCE = "a run folder of training.fit, a .keras file, or the name of a pretrained network"


@contextmanager
def silence() -> Iterator[None]:
    """Keep what TensorFlow's C++ code prints to stderr off the screen."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def parser(room: str, description: str) -> argparse.ArgumentParser:
    """The parser of `python -m larq_seresnet.ROOM`."""
    return argparse.ArgumentParser(prog=f"python -m larq_seresnet.{room}", description=description)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose images; `sources.load_with_images` takes them."""
    parser.add_argument(
        "--dataset", metavar="NAME", help="whose images (default: what the model was trained on)"
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help="only the first N of the images"
    )


def positive(text: str) -> int:
    """A number of the command line, for `argparse`."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return int(text)


def require_folder(file: Path) -> None:
    """Fail before the work where a file cannot be written after it.

    Raises:
        NotADirectoryError: Its folder does not exist.
    """
    if not file.parent.is_dir():
        raise NotADirectoryError(f"there is no folder {file.parent}")


def run_command(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None,
) -> int:
    """Do a command's work; returns the exit status.

    What the package logs goes to stderr, and what is the user's to mend becomes one line there.
    """
    args = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with written_output():
            work(args)
    except BrokenPipeError:  # the reader, like `head`, has seen enough
        return 141
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(reason(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


class Progress:
    """A counter on stderr, where that is a terminal.

    Args:
        what: Is counted.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show how many are done, and of how many."""
        if self._shown:
            print(f"\r{self._what} {done} of {total}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            print(file=sys.stderr)
