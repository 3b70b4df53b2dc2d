"""A run's folder: configuration, log, checkpoint and curves, each written whole or not at all.

config.json    resolved configuration, data counts, versions
summary.txt    the network's layers, its multiply-adds, and the memory of weights and activations
log.csv        one row an epoch
gates.csv      the gates' statistics, one row an epoch and module; see gates.py
calibrated.csv errors after each epoch with batch norm calibrated; see recorder.py
model.keras    the checkpoint: network, optimizer and its step, after the log's last epoch
curves.png     the log, drawn
results.json   final errors, measured in float32; only a finished run has it
results.csv    the same, one row for each number of epochs that the run was finished with
skipped.csv    pictures that could not be read, and why; only where there are some
classes.csv, confusion.*, mistakes.*: see classes.py
"""

import contextlib
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import tensorflow as tf

from larq_seresnet.files import replacing
from training import UserError
from training.trainer.config import Config

Row = dict[str, float]


def read_rows(path: Path) -> list[Row]:
    """The rows of a log, which are all numbers.

    Raises:
        OSError: It cannot be read.
        ValueError: A row has no or other values than numbers.
        TypeError: A row is shorter than the header.
    """
    with path.open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def training_command(run: Path) -> str:
    """The `training.fit` command of a run's configuration, but for what is the default.

    Where the run started from another one's network, that one's command comes first.

    Raises:
        UserError: There is no configuration, or it is damaged.
    """
    try:
        stored = json.loads((run / "config.json").read_text())["config"]
        known = Config().decisive().keys() - {"precision", "kernels"}
        values = {key: value for key, value in stored.items() if key in known}
        config = Config(**values, out=Path("runs") / run.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / 'config.json'} is damaged: {error}") from error
    start = Path(config.start_from or "")
    if config.start_from and (start / "config.json").exists():
        return f"{training_command(start)} && {config.command}"
    return config.command


class RunFolder:
    """Holds the folder for this process alone, while its `with` block lasts.

    Raises:
        UserError: The folder cannot be made or written, another process trains there, or it holds
            a run with another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self._is_new = not path.exists()
        self._lock = filelock.FileLock(path / ".lock", blocking=False)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise UserError(f"another process is training in {path}") from error
        except OSError as error:
            raise UserError(f"--out {path} is no folder to write to: {error}") from error
        try:
            self._agree(config)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of the folder, and of what is left of a run that did not begin."""
        if not (self.path / "config.json").exists():
            with contextlib.suppress(OSError):
                (self.path / ".lock").unlink()
                if self._is_new:
                    self.path.rmdir()
        self._lock.release()

    @property
    def checkpoint(self) -> Path:
        """The file with the network and the optimizer."""
        return self.path / "model.keras"

    def agree_on_data(self, fingerprint: str) -> None:
        """Check that a run that was begun goes on with the same pictures.

        Raises:
            UserError: They have changed.
        """
        file = self.path / "config.json"
        if file.exists():
            begun_with = json.loads(file.read_text()).get("data", {}).get("fingerprint", "")
            if begun_with != fingerprint:
                raise UserError(
                    f"the pictures have changed since the run in {self.path} began: restore them, "
                    "or train in another folder"
                )

    def load_checkpoint(self) -> tf.keras.Model | None:
        """The network as it was after the last finished epoch, compiled; `None` in a new run.

        Raises:
            UserError: The file is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            return tf.keras.models.load_model(self.checkpoint)
        except Exception as error:  # whatever a damaged file makes the parsers raise
            raise UserError(
                f"the checkpoint {self.checkpoint} is damaged ({error}): restore it, "
                f"or delete {self.path} to train from the start"
            ) from error

    def save_checkpoint(self, model: tf.keras.Model) -> None:
        """Replace the checkpoint."""
        self._replace(self.checkpoint, model.save)

    def load_log(self, epochs: int) -> list[Row]:
        """The first rows of the log; a later one belongs to an epoch that was not finished.

        Raises:
            UserError: The log is damaged, or shorter than the checkpoint says.
        """
        rows = self._load_rows("log.csv", epochs) if epochs else []
        if len(rows) < epochs:
            raise UserError(
                f"{self.path / 'log.csv'} has {len(rows)} epochs, the checkpoint {epochs}: "
                f"restore it, or delete {self.path} to train from the start"
            )
        return rows[:epochs]

    def load_record(self, name: str, epochs: int) -> list[Row]:
        """The first epochs' rows of a further log; none where the run has no such file.

        Raises:
            UserError: The file is damaged.
        """
        return self._load_rows(name, epochs) if (self.path / name).exists() else []

    def _load_rows(self, name: str, epochs: int) -> list[Row]:
        try:
            return [row for row in read_rows(self.path / name) if row["epoch"] <= epochs]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path / name} is damaged ({error}): restore it, "
                f"or delete {self.path} to train from the start"
            ) from error

    def save_rows(self, name: str, rows: list[Row]) -> None:
        """Replace a log; without rows there is none."""

        def write(path: Path) -> None:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(
                    {key: f"{value:.7g}" for key, value in row.items()} for row in rows
                )

        if rows:
            self._replace(self.path / name, write)

    def save_table(self, name: str, table: Any) -> None:
        """Replace a table: a pandas.DataFrame, with its index."""
        self._replace(self.path / name, table.to_csv)

    def save_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file."""
        self.save_text(name, json.dumps(content, indent=2, default=str))

    def save_text(self, name: str, text: str) -> None:
        """Replace a file."""
        self._replace(self.path / name, lambda path: path.write_text(f"{text}\n"))

    def save_results(self, epoch: int, results: Row) -> None:
        """Replace the results, and add them to those of the shorter runs that this one was."""
        rows = self.load_record("results.csv", epoch - 1)
        self.save_rows("results.csv", [*rows, {"epoch": epoch, **results}])
        self.save_json("results.json", results)

    def withdraw_results(self) -> None:
        """Remove the results: the run goes on."""
        (self.path / "results.json").unlink(missing_ok=True)

    def save_figure(self, name: str, figure: Any) -> None:
        """Replace a picture."""
        self._replace(self.path / name, lambda path: figure.savefig(path, dpi=120))

    def _replace(self, target: Path, write: Callable[[Path], Any]) -> None:
        try:
            with replacing(target) as draft:
                write(draft)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error.strerror or error}") from error

    def _agree(self, config: dict[str, Any]) -> None:
        """Check that the folder's run, if there is one, has the same configuration."""
        file = self.path / "config.json"
        if not file.exists():
            if any(item.name != ".lock" for item in self.path.iterdir()):
                raise UserError(
                    f"--out {self.path} holds files that are no run: take another folder"
                )
            return
        try:
            # What an older version could not be told has its default.
            found = {**Config().decisive(), **json.loads(file.read_text())["config"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}): delete {self.path}") from error
        for key, value in config.items():
            if key == "epochs" and config["schedule"] == "constant" and found.get(key) < value:
                continue  # the longer run begins as the shorter one
            if found.get(key) != value:
                name = key.replace("_", "-")
                raise UserError(
                    f"--out {self.path} holds a run with --{name} {found.get(key)}, "
                    f"not {value}: take another folder, or the same flags"
                )
