"""Reads what runs, and the commands beside `training.fit`, leave in folders of results."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

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
    """A CSV file with a value in every cell.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        table = pd.read_csv(path)
        if table.isna().any(axis=None):
            raise ValueError("a value is missing")
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise _unreadable(path, error) from error
    return table


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({reason}): delete it, and make it again")
