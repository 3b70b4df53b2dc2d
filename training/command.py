"""How the commands that can be cut off and go on end: with one line."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from larq_seresnet.edge.errors import reason


def leave(message: str) -> NoReturn:
    """End this process as `sys.exit` does, but without TensorFlow's teardown.

    After a connection was lost, that prints a traceback after the message; after a training was
    cut off, it waits for the input pipeline's threads, at times for minutes.
    """
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


@contextlib.contextmanager
def ending(name: str, stopped: str) -> Iterator[None]:
    """Turn the user's mistakes, Ctrl-C and SIGTERM into one line and a non-zero exit.

    Args:
        name: Of the command.
        stopped: What to say after an interruption.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{name}: error: {' '.join(reason(error).split())}")
    except KeyboardInterrupt:
        leave(f"\nstopped; {stopped}")
