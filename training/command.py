"""How the commands that can be cut off and go on end: with one line."""

import contextlib
import signal
import sys
from collections.abc import Iterator

from training import UserError


@contextlib.contextmanager
def ending(
    name: str, stopped: str, errors: tuple[type[Exception], ...] = (UserError,)
) -> Iterator[None]:
    """Turn the user's mistakes, Ctrl-C and SIGTERM into one line and a non-zero exit.

    Args:
        name: Of the command.
        stopped: What to say after an interruption.
        errors: What counts as the user's mistake.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except errors as error:
        sys.exit(f"{name}: error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; {stopped}")
