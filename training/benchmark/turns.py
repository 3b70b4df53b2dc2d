"""Workers that take turns: each a process of its own, which does nothing while the others work.

So no variant's threads, caches or settings meet another's, and what else the machine does meets all
of them alike.
"""

import importlib
import multiprocessing
import os
import signal
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

from training import UserError, processor
from training.trainer import data

WARM_UP_STEPS = 4  # at the head of each turn: what was fetched while others worked is used up


@dataclass(frozen=True)
class Task:
    """What a worker has to do.

    Attributes:
        variant: Its name, for the table.
        width: Of the network.
        activations: Of the network, "float" or "binary".
        batch_size: Images in a step.
        steps: Training steps to measure in each turn, after `WARM_UP_STEPS`.
        rounds: How many turns are measured, after a first one that is not.
        dataset: Its training split is what one turn trains on.
        folder: To write to.
    """

    variant: str
    width: int
    activations: str
    batch_size: int
    steps: int
    rounds: int
    dataset: data.Data
    folder: Path

    @property
    def evaluation_images(self) -> int:
        """In each turn."""
        return len(self.dataset.validation[1]) + len(self.dataset.test[1])


@dataclass(frozen=True)
class Turn:
    """What a worker measured in a turn: images and seconds.

    Attributes:
        training_images: Trained on in the measured steps.
        training_seconds: These steps, input pipeline and callbacks included.
        evaluation_images: Evaluated on after them; may be none.
        evaluation_seconds: The evaluation.
        other_seconds: What else an epoch took: checkpoint, log, statistics.
    """

    training_images: int
    training_seconds: float
    evaluation_images: int = 0
    evaluation_seconds: float = 0.0
    other_seconds: float = 0.0


class Baton:
    """A worker's side of the turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wait(self) -> None:
        """Wait for the next turn."""
        self._connection.recv()

    def hand_back(self, turn: Turn) -> None:
        """End the turn."""
        self._connection.send(turn)


# Module and function; what a process does not need it does not import.
VARIANTS = {
    "fit": ("keras_variants", "project"),
    "plain": ("keras_variants", "plain"),
    "plain-onednn": ("keras_variants", "plain"),
    "fit-input": ("keras_variants", "project_input"),
    "plain-input": ("keras_variants", "plain_input"),
    "torch-float32": ("torch_twin", "float32"),
    "torch-bfloat16": ("torch_twin", "bfloat16"),
}


class Worker:
    """A process that runs a variant, turn by turn, and ends with this one."""

    def __init__(self, task: Task) -> None:
        self.task = task
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(task, theirs), daemon=True)
        plain = task.variant in ("plain", "plain-input")
        with mock.patch.dict(os.environ, processor.as_users_have_it() if plain else {}):
            self._process.start()
        theirs.close()
        self._receive()  # it has imported what it needs

    def take_turn(self) -> Turn:
        """Let the worker work once.

        Raises:
            UserError: It failed.
        """
        self._connection.send(None)
        return self._receive()

    def _receive(self) -> Turn:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            answer = f"its process ended with status {self._process.exitcode}"
        if isinstance(answer, str):
            raise UserError(f"{self.task.variant}, width {self.task.width}: {answer}")
        return answer

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _work(task: Task, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out turns
    try:
        module, function = VARIANTS[task.variant]
        variant = getattr(importlib.import_module(f"training.benchmark.{module}"), function)
        connection.send(None)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            variant(task, Baton(connection))
    except EOFError:  # nobody hands out turns any more
        return
    except UserError as error:
        connection.send(str(error))
    except Exception:
        connection.send(traceback.format_exc())


def clock() -> float:
    """Seconds since some point in time."""
    return time.perf_counter()
