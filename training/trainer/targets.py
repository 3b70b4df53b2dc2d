"""What a network is trained to answer: the label, a smoothed label, or what a teacher answers.

The two latter are probabilities, which the data bring along: the network and its loss,
categorical cross-entropy, need not know where they come from.
"""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from larq_seresnet import sources
from training import UserError
from training.trainer import data


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


def load_teacher(name: str, dataset: str) -> tf.keras.Model:
    """The network to learn from.

    Args:
        name: A run's folder, a saved network, or the data set of a pretrained `SEResNet14`.
        dataset: Which it must have learned, where that is known.

    Raises:
        UserError: There is none, or it cannot teach this data set.
    """
    try:
        source = sources.load(name, "seresnet14")
    except UserError as error:
        raise UserError(f"--distill {name}: {error}") from error
    learned = source.metadata.get("dataset", dataset)
    if learned != dataset:
        raise UserError(f"--distill {name} has learned {learned}, not {dataset}")
    outputs = source.model.output_shape[-1]
    if outputs != len(data.SOURCES[dataset].labels):
        raise UserError(f"--distill {name} has {outputs} classes, {dataset} others")
    return source.model


def distill(
    batches: tf.data.Dataset, teacher: tf.keras.Model, weight: float, temperature: float
) -> tf.data.Dataset:
    """Mix the teacher's answers to the augmented images into the targets.

    targets = (1 - weight) labels + weight softmax(z / temperature), with the teacher's logits z
    (Hinton et al., arXiv:1503.02531; but the student's logits are not divided by the temperature:
    it learns the teacher's logits over the temperature).

    Args:
        batches: (images, labels as probabilities).
        teacher: From images to probabilities.
        weight: The teacher's share, 0 to 1.
        temperature: Above 1 it makes the teacher less sure.
    """

    def mix(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        log_probabilities = tf.math.log(teacher(images, training=False) + 1e-9)
        answers = tf.nn.softmax(log_probabilities / temperature)
        return images, (1 - weight) * labels + weight * answers

    return batches.map(mix).prefetch(1)
