"""Writes files whole or not at all, and knows where those lie that can be made anew."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which is renamed at the end: no reader sees half of it."""
    path = path.resolve()  # where a link leads to
    if path.exists() and not path.is_file():  # as /dev/null
        yield path
        return
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(path.suffix, f".{path.stem}.", path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file's content by `replacing` it."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The folder of what can be made anew: `chosen`, or `larq-seresnet` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "larq-seresnet"
    return Path(chosen or default).expanduser()
