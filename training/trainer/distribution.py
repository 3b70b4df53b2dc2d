"""Training on several devices or machines, on `tf.distribute`: `--distribute`.

mirrored      all of this machine's GPUs
multiworker   several machines, which run the same command; TF_CONFIG tells each who they are

The replicas share each batch of `--batch-size` images: together they see what one process would
see, in the same order and with the same augmentation, so that steps and learning rates mean the
same. Batch norm normalizes with each replica's own share of the batch; its moving statistics are
averaged after each epoch.

The chief, which is the first worker, owns the run's folder. The others work on a copy of it in a
temporary folder, sent over by the chief: workers need no common disk, and nothing of what they
write is kept.
"""

import contextlib
import io
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from larq_seresnet.console import silence
from training import UserError

Kind = Literal["none", "mirrored", "multiworker"]

START_TIMEOUT = 120  # seconds until every worker must have been started
# TensorFlow's heartbeats: after so many seconds without one a worker is lost.
HEARTBEAT_TIMEOUT = 10

_EXAMPLE = (
    '{"cluster": {"worker": ["192.168.1.10:2222", "192.168.1.11:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_FILES = ("config.json", "log.csv", "gates.csv", "model.keras")

Strategy = Any  # tf.distribute.Strategy, which TensorFlow does not type


@dataclass(frozen=True)
class Group:
    """The replicas that train together, seen from this process.

    Attributes:
        strategy: TensorFlow's; its default one where nothing is distributed.
        chief: Whether this process is the one that writes.
    """

    strategy: Strategy
    chief: bool = True

    @contextlib.contextmanager
    def folder(self, path: Path) -> Iterator[Path]:
        """The run's folder; for other workers than the chief, a copy that is thrown away."""
        content = self._from_chief(_pack(path) if self.chief else b"")
        if self.chief:
            yield path
            return
        with tempfile.TemporaryDirectory() as copy:
            zipfile.ZipFile(io.BytesIO(content)).extractall(copy)
            yield Path(copy)

    def share(self, batch_size: int) -> int:
        """A replica's images of a batch.

        Raises:
            UserError: The replicas cannot share it evenly.
        """
        replicas = self.strategy.num_replicas_in_sync
        if batch_size % replicas:
            raise UserError(
                f"--batch-size {batch_size} cannot be shared evenly by {replicas} replicas: "
                f"take a multiple of {replicas}"
            )
        return batch_size // replicas

    def callbacks(self) -> list[tf.keras.callbacks.Callback]:
        """What training needs, before the callbacks that look at an epoch's end."""
        return [_AverageStatistics()] if self.strategy.num_replicas_in_sync > 1 else []

    def wait(self) -> None:
        """Wait until every worker is here: the first to end would take the others down."""
        self._from_chief(b"done")

    def _from_chief(self, content: bytes) -> bytes:
        """The chief's content, in every worker."""
        if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return content
        size = int(self._sum(np.array([len(content)]), np.float64)[0])
        values = np.frombuffer(content, np.uint8) if self.chief else np.zeros(size, np.uint8)
        return self._sum(values, np.float32).astype(np.uint8).tobytes()

    def _sum(self, values: np.ndarray, dtype: type) -> np.ndarray:
        """The first replica's values: in floats, which every device can sum."""

        def value(context: Any) -> tf.Tensor:
            mine = self.chief and context.replica_id_in_sync_group == 0
            return tf.constant(values if mine else np.zeros_like(values), dtype)

        values_by_replica = self.strategy.experimental_distribute_values_from_function(value)
        return self.strategy.reduce("SUM", values_by_replica, axis=None).numpy()


@contextlib.contextmanager
def join(kind: Kind) -> Iterator[Group]:
    """Join the group that trains together, and leave it when all are done.

    For workers other than the chief, nothing is printed meanwhile.

    Raises:
        UserError: TF_CONFIG is missing or wrong, a worker was not started within
            `START_TIMEOUT` seconds, or one was lost: within about `HEARTBEAT_TIMEOUT` seconds.
    """
    if kind == "none":
        yield Group(tf.distribute.get_strategy())
        return
    if kind == "mirrored":
        yield Group(tf.distribute.MirroredStrategy())
        return
    cluster, address, chief = _task()
    _wait_for(cluster, address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with silence():
            group = Group(tf.distribute.MultiWorkerMirroredStrategy(), chief)
        signal.signal(signal.SIGTERM, handler)  # TensorFlow has put its own in its place
        number = cluster.index(address) + 1
        print(f"worker {number} of {len(cluster)}, {address}; chief: {cluster[0]}", flush=True)
        with contextlib.ExitStack() as stack:
            if not chief:
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield group
            group.wait()
    except tf.errors.OpError as error:
        raise UserError(
            f"worker {address} has lost the others, of which one ended or cannot be reached "
            f"({type(error).__name__}): start the same command on every machine again; "
            "it goes on from the last finished epoch"
        ) from error


def is_chief(kind: Kind) -> bool:
    """Whether this process is the one that writes."""
    return kind != "multiworker" or _task()[2]


def _task() -> tuple[list[str], str, bool]:
    """The cluster's addresses, the chief's first; this worker's; whether it is the chief."""
    try:
        content = json.loads(os.environ["TF_CONFIG"])
        cluster, task = content["cluster"], content["task"]
        addresses = [*cluster.get("chief", []), *cluster.get("worker", [])]
        address = cluster[task["type"]][task["index"]]
        if address not in addresses or not all(re.fullmatch(r".+:\d+", x) for x in addresses):
            raise ValueError("not a chief's or worker's host:port")
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"--distribute multiworker needs the environment variable TF_CONFIG, such as "
            f"{_EXAMPLE} ({type(error).__name__}: {error})"
        ) from error
    return addresses, address, address == addresses[0]


def _wait_for(cluster: list[str], address: str) -> None:
    """Wait until every worker listens; TensorFlow itself would wait for an hour, deaf to Ctrl-C.

    Raises:
        UserError: One does not, or this one cannot.
    """
    deadline = time.monotonic() + START_TIMEOUT
    missing = [other for other in cluster if other != address]
    try:
        listener = socket.create_server(("", int(address.rpartition(":")[2])))
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"worker {address} cannot listen there: {error}") from error
    with listener:
        print(f"waiting for {', '.join(missing)}", file=sys.stderr, flush=True)
        while missing := [other for other in missing if not _listens(other)]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{', '.join(missing)} cannot be reached after {START_TIMEOUT} seconds: "
                    "start the same command there, with its TF_CONFIG"
                )
            time.sleep(0.2)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _pack(folder: Path) -> bytes:
    """The files of a run from which it can be resumed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in _FILES:
            if (folder / name).exists():
                file.write(folder / name, name)
    return archive.getvalue()


class _AverageStatistics(tf.keras.callbacks.Callback):
    """Averages batch norm's moving statistics over the replicas after each epoch.

    Evaluation, checkpoint and a resumed run then see the same ones.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Read the average, and give it to every replica."""
        for weight in self.model.non_trainable_weights:
            weight.assign(weight.read_value())
