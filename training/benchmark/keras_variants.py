"""The variants in TensorFlow: this project's `fit`, and the plain Keras loop beside it."""

from dataclasses import replace
from typing import Any, cast

import tensorflow as tf

from larq_seresnet.models import SEResNet14Bin
from training.benchmark.turns import WARM_UP_STEPS, Baton, Task, Turn, clock
from training.trainer import data, fit, recorder
from training.trainer.augmentation import Augmentation
from training.trainer.config import Config

INPUT_FACTOR = 10  # the input alone is faster: more steps a turn


def project(task: Task, baton: Baton) -> None:
    """`training.fit` as it is, with all that it does in an epoch; one epoch a turn."""
    turns = _Turns(task, baton)
    measured = recorder.loss_and_error

    def loss_and_error(model: Any, batches: Any) -> tuple[float, float]:
        start = clock()
        result = measured(model, batches)
        turns.evaluation_seconds += clock() - start
        return result

    recorder.loss_and_error = loss_and_error
    config = Config(
        width=task.width,
        activations=cast(Any, task.activations),
        batch_size=task.batch_size,
        epochs=task.rounds + 2,
        out=task.folder / f"{task.variant}-{task.width}-{task.activations}",
    )
    fit.fit(config, task.dataset, [turns])


def project_input(task: Task, baton: Baton) -> None:
    """The input pipeline of `training.fit`, without training."""
    batches = data.training_batches(
        task.dataset.train,
        Augmentation(flip="horizontal" if task.dataset.source.flip else "none"),
        batch_size=task.batch_size,
        seed=0,
        epochs=range(10**9),
    )
    _iterate(batches, task, baton)


def plain(task: Task, baton: Baton) -> None:
    """`model.fit` in float32 on images that are augmented one by one."""
    tf.keras.utils.set_random_seed(0)
    source = task.dataset.source
    model = SEResNet14Bin(
        width=task.width,
        activations=task.activations,
        fmb=False,
        classes=len(source.labels),
        input_shape=source.shape,
        mean=source.mean,
        variance=source.variance,
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    turns = _Turns(task, baton)
    evaluated = [data.evaluation_batches(s) for s in (task.dataset.validation, task.dataset.test)]

    def evaluate(epoch: int, logs: Any) -> None:
        start = clock()
        for batches in evaluated:
            recorder.loss_and_error(model, batches)
        turns.evaluation_seconds += clock() - start

    model.fit(
        _plain_batches(task),
        steps_per_epoch=WARM_UP_STEPS + task.steps,
        epochs=task.rounds + 2,
        callbacks=[turns, tf.keras.callbacks.LambdaCallback(on_epoch_end=evaluate)],
        verbose=0,
    )


def plain_input(task: Task, baton: Baton) -> None:
    """The input pipeline of `plain`, without training."""
    _iterate(_plain_batches(task), task, baton)


def _plain_batches(task: Task) -> tf.data.Dataset:
    """Batches without end, in the way of larq-zoo's `training/train.py`."""
    images, labels = task.dataset.train
    shape = images.shape[1:]
    padded = [side + 2 * Config().crop_padding for side in shape[:2]]

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.resize_with_crop_or_pad(image, *padded)
        image = tf.image.random_crop(image, shape)
        return tf.image.random_flip_left_right(image), label

    return (
        tf.data.Dataset.from_tensor_slices((images[:], labels))
        .cache()
        .shuffle(10 * task.batch_size)
        .repeat()
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(task.batch_size)
        .prefetch(1)
    )


def _iterate(batches: tf.data.Dataset, task: Task, baton: Baton) -> None:
    iterator = iter(batches)
    steps = INPUT_FACTOR * task.steps
    while True:
        baton.wait()
        for _ in range(INPUT_FACTOR * WARM_UP_STEPS):
            next(iterator)
        start = clock()
        for _ in range(steps):
            next(iterator)
        baton.hand_back(Turn(steps * task.batch_size, clock() - start))


class _Turns(tf.keras.callbacks.Callback):
    """Makes each epoch a turn; the first in the list of callbacks.

    Attributes:
        evaluation_seconds: Of the turn's epoch, for others to add to.
    """

    def __init__(self, task: Task, baton: Baton) -> None:
        super().__init__()
        self._supports_tf_logs = True  # otherwise Keras copies the metrics at each step
        self._task = task
        self._baton = baton
        self._finished: Turn | None = None
        self.evaluation_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._finished:
            other = clock() - self._trained - self.evaluation_seconds
            self._baton.hand_back(
                replace(
                    self._finished, evaluation_seconds=self.evaluation_seconds, other_seconds=other
                )
            )
        self._baton.wait()
        self.evaluation_seconds = 0.0
        self._warm: tuple[int, float] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._warm and batch + 1 >= WARM_UP_STEPS:
            self._warm = batch + 1, clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self._warm
        self._trained = clock()
        steps = WARM_UP_STEPS + self._task.steps - self._warm[0]
        self._finished = Turn(
            steps * self._task.batch_size,
            self._trained - self._warm[1],
            self._task.evaluation_images,
        )
