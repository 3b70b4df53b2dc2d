"""The exceptions of `larq_seresnet.edge`; each message is one line that a user can act on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 500


def printable(text: str) -> str:
    """Text of a file with everything escaped that a terminal would act upon."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def reason(error: object) -> str:
    """What an error says; of the system's, the file and what is wrong with it, without a number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def one_line(error: object) -> str:
    """A message that is never empty and can be printed, whatever a file put into it."""
    text = printable(" ".join(reason(error).split()))
    if not text:
        return f"no reason was given ({type(error).__name__})"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def written_output() -> Iterator[None]:
    """Writes what was printed before it ends, so that a full disk or a closed pipe is heard of.

    Raises:
        OSError: It cannot be written.
    """
    try:
        yield
    finally:
        try:
            if sys.stdout:  # which may be closed
                sys.stdout.flush()
        except OSError:  # Python would try once more when it exits, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


class ModelError(ValueError):
    """A `.tflite` file is damaged, or asks for something that cannot be run."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class RuntimeMissingError(ImportError):
    """No TFLite runtime, or not the native delegate that a file's operators need."""
