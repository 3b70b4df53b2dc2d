"""Reads what runs leave in their folders; reads and writes the results of other experiments."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from larq_seresnet.files import write_atomically
from training import UserError


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_csv(path: Path) -> pd.DataFrame:
    """A table with a value in every cell, which may be the text "nan".

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        if table.isna().any(axis=None):
            raise ValueError("a value is missing")
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise _unreadable(path, error) from error
    return table


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file."""
    write_atomically(path, f"{json.dumps(content)}\n".encode())


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Replace a table."""
    write_atomically(path, table.to_csv(index=False).encode())


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({reason}): make it again")
