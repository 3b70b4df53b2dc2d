"""Reads what the commands beside `training.fit` leave in the folder of results."""

import csv
import json
from pathlib import Path
from typing import Any

from training import UserError


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: It is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and make it again") from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))
