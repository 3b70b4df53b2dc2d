"""What a network is trained to answer: the label, a smoothed label, or what a teacher answers.

The two latter are probabilities, which the data bring along: the network and its loss,
categorical cross-entropy, need not know where they come from.
"""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from larq_seresnet import sources
from larq_seresnet.datasets import Source
from training import UserError
from training.trainer import data
from training.trainer.answers import Teacher


def one_hot(dataset: data.Data, smoothing: float) -> data.Data:
    """The data set with labels (n, classes) float32, those of the training split smoothed.

    Of the labels' probability the share `smoothing` is spread evenly over all classes (Szegedy et
    al., arXiv:1512.00567, section 7).
    """
    classes = len(dataset.source.labels)

    def encode(split: data.Split, smoothing: float) -> data.Split:
        images, labels = split
        encoded = np.eye(classes, dtype=np.float32)[labels]
        return images, (1 - smoothing) * encoded + np.float32(smoothing / classes)

    return replace(
        dataset,
        train=encode(dataset.train, smoothing),
        validation=encode(dataset.validation, 0),
        test=encode(dataset.test, 0),
    )


def weighted(batches: tf.data.Dataset, labels: np.ndarray) -> tf.data.Dataset:
    """Batches with a weight for each image: all classes together count the same.

    Args:
        batches: (images, labels), the latter numbers or probabilities.
        labels: Of all training images; their mean weight is 1.
    """
    classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
    counts = np.bincount(classes)
    share = len(classes) / np.count_nonzero(counts)
    weights = tf.constant(share / np.maximum(counts, 1), tf.float32)

    def weigh(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        numbers = labels if labels.shape.rank == 1 else tf.argmax(labels, axis=1)
        return images, labels, tf.gather(weights, numbers)

    return batches.map(weigh)


def load_teacher(name: str, dataset: str, source: Source) -> tf.keras.Model:
    """The network to learn from.

    Args:
        name: A run's folder, a saved network, or the data set of a pretrained `SEResNet14`.
        dataset: Whose classes it must have learned, where they are known.
        source: What is known of that data set.

    Raises:
        UserError: There is none, or it cannot teach this data set.
    """
    try:
        found = sources.load(name, "seresnet14")
    except UserError as error:
        raise UserError(f"--distill {name}: {error}") from error
    learned, labels = (found.metadata.get(key) for key in ("dataset", "labels"))
    if learned and dataset in data.SOURCES and learned != dataset:
        raise UserError(f"--distill {name} has learned {learned}, not {dataset}")
    if labels and tuple(labels) != tuple(source.labels):
        raise UserError(f"--distill {name} has learned other classes than those of {dataset}")
    model = found.model
    if model.output_shape[-1] != len(source.labels):
        raise UserError(f"--distill {name} has {model.output_shape[-1]} classes, {dataset} others")
    if model.input_shape[1:] != source.shape:
        sizes = f"{model.input_shape[1:]}, {dataset} has {source.shape}"
        raise UserError(f"--distill {name} takes images of {sizes}")
    answer = model(tf.zeros((1, *source.shape)), training=False)
    if not abs(np.sum(answer, dtype=np.float32) - 1) < 0.01:
        raise UserError(f"--distill {name} does not answer with probabilities: it lacks a softmax")
    return model


def distill(
    batches: tf.data.Dataset, teacher: Teacher, weight: float, temperature: float
) -> tf.data.Dataset:
    """Mix the teacher's answers to the augmented images into the targets.

    targets = (1 - weight) labels + weight softmax(z / temperature), with the teacher's logits z
    (Hinton et al., arXiv:1503.02531; but the student's logits are not divided by the temperature:
    it learns the teacher's logits over the temperature).

    Args:
        batches: (images, labels as probabilities), and weights where there are some.
        teacher: From images to the logarithms of probabilities.
        weight: The teacher's share, 0 to 1.
        temperature: Above 1 it makes the teacher less sure.
    """

    def mix(images: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        answers = tf.nn.softmax(teacher(images) / temperature)
        return images, (1 - weight) * labels + weight * answers, *weights

    return batches.map(mix).prefetch(1)
