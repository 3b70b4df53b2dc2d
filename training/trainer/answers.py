"""What a teacher answered, kept on disk: the same images need not be shown to it twice."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import tensorflow as tf

from larq_seresnet.edge.errors import reason
from larq_seresnet.files import cache_folder
from training import UserError

Teacher = Callable[[tf.Tensor], tf.Tensor]
"""From images uint8 to the logarithms of probabilities, float32 (batch, classes)."""


def log_probabilities(model: tf.keras.Model) -> Teacher:
    """A network that teaches."""
    return lambda images: tf.math.log(model(images, training=False) + 1e-9)


def stored(teacher: Teacher, path: Path, classes: int) -> Teacher:
    """The teacher, which looks up whether it has seen a batch before.

    Args:
        teacher: Is asked what is not yet known.
        path: An SQLite file, which is made where it is missing: half-precision floats by a hash of
            the batch's images, 2 bytes for an image and a class. Several runs may share it.
        classes: That the teacher tells apart.

    Raises:
        UserError: It can be neither read nor made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without isolation each answer is written at once, and no other run waits for long.
        connection = sqlite3.connect(
            path, timeout=60, isolation_level=None, check_same_thread=False
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (images BLOB PRIMARY KEY, answer BLOB)"
        )
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the teacher's answers cannot be kept in {path} ({reason(error)}): "
            "delete it, or choose another --cache-dir"
        ) from error

    def find(images: np.ndarray) -> np.ndarray:
        content = b""
        with suppress(sqlite3.Error):  # what cannot be read is asked for
            select = "SELECT answer FROM answers WHERE images = ?"
            content = b"".join(row[0] for row in connection.execute(select, [_key(images)]))
        is_whole = len(content) == 2 * classes * len(images)
        return np.frombuffer(content if is_whole else b"", np.float16).reshape(-1, classes)

    def keep(images: np.ndarray, answer: np.ndarray) -> np.ndarray:
        row = [_key(images), answer.tobytes()]
        with suppress(sqlite3.Error):  # a full disk, for instance
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)
        return answer

    def answer(images: tf.Tensor) -> tf.Tensor:
        def ask() -> tf.Tensor:
            fresh = tf.cast(teacher(images), tf.float16)
            return tf.numpy_function(keep, [images, fresh], tf.float16)

        known = tf.numpy_function(find, [images], tf.float16)
        answer = tf.cond(tf.size(known) > 0, lambda: known, ask)
        return tf.cast(tf.ensure_shape(answer, (images.shape[0], classes)), tf.float32)

    return answer


def place(model: tf.keras.Model, folder: str | None) -> Path:
    """The file of a network's answers in the cache: another one for other weights."""
    digest = hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights()))
    return cache_folder(folder) / f"answers-{digest.hexdigest()[:16]}.sqlite"


def _key(images: np.ndarray) -> bytes:
    return hashlib.blake2b(images.tobytes(), digest_size=16).digest()
