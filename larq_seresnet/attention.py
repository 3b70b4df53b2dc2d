"""What the squeeze-and-excitation modules of a network do on images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from larq_seresnet import gates
from larq_seresnet._tensorflow import tf
from larq_seresnet.layers import SqueezeExcite
from larq_seresnet.models import to_float32
from larq_seresnet.nested import flat

_BATCH = 250


@dataclass(frozen=True)
class Observation:
    """One module on a set of images.

    Attributes:
        module: In float32.
        pooled: Averages of its input over the pixels, float32 (images, channels).
        is_on: Whether the gate is at its threshold or above, which FMB makes its high value:
            (images, channels).
    """

    module: SqueezeExcite
    pooled: np.ndarray
    is_on: np.ndarray


def modules(model: tf.keras.Model) -> list[SqueezeExcite]:
    """The model's squeeze-and-excitation modules, from the first block to the last.

    Those of models in it are among them.
    """
    found = []
    for layer in model.layers:
        if isinstance(layer, SqueezeExcite):
            found.append(layer)
        elif isinstance(layer, tf.keras.Model):
            found += modules(layer)
    return found


def is_on(module: SqueezeExcite, pooled: np.ndarray) -> np.ndarray:
    """Which gates are on, (images, channels), by the module's pooled input."""
    gate = gates.get(module.gate)
    z = module.preactivation_of_pooled(tf.constant(pooled[:, None, None, :]), training=False)
    return gate.activation(z).numpy()[:, 0, 0] >= gate.threshold


def observe(
    model: tf.keras.Model,
    images: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Observation]:
    """Run the model in float32 and look at every module.

    Args:
        model: A functional or sequential model.
        images: Raw pixels (images, height, width, channels).
        progress: Is told how many images are done, and of how many.

    Raises:
        ValueError: There are no images, they do not fit the model, or it has no module.
    """
    exact = to_float32(flat(model))
    found = modules(exact)
    if not found:
        raise ValueError("the model has no squeeze-and-excitation")
    check_images(exact, images)
    probe = tf.keras.Model(exact.inputs, [module.input for module in found])

    @tf.function(reduce_retracing=True)
    def pool(batch: tf.Tensor) -> list[tf.Tensor]:
        features = tf.nest.flatten(probe(batch, training=False))
        return [tf.reduce_mean(x, axis=(1, 2)) for x in features]

    batches = []
    for start in range(0, len(images), _BATCH):
        batch = tf.constant(images[start : start + _BATCH], tf.float32)
        batches.append([x.numpy() for x in pool(batch)])
        progress(min(start + _BATCH, len(images)), len(images))
    pooled = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return [Observation(m, x, is_on(m, x)) for m, x in zip(found, pooled, strict=True)]


def check_images(model: tf.keras.Model, images: np.ndarray) -> None:
    """Refuse images that do not fit.

    Raises:
        ValueError: There are none, or they have another shape than the model's input.
    """
    wanted = [x.shape[1:] for x in model.inputs]
    fits = len(wanted) == 1 and wanted[0].is_compatible_with(images.shape[1:])
    if not fits or not len(images):
        shapes = ", ".join(str(tuple(shape)) for shape in wanted)
        raise ValueError(f"images of shape {images.shape} do not fit inputs of {shapes}")
