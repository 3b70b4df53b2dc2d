"""The untrained network and the optimizer that a configuration describes."""

from typing import Any

import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.architecture import Architecture
from larq_seresnet.attention import modules as attention_modules
from larq_seresnet.datasets import Source
from training.trainer.config import Config


def architecture(config: Config, source: Source) -> Architecture:
    """What the configuration and its data set make of the network."""
    return Architecture(
        **config.hyperparameters,
        classes=len(source.labels),
        input_shape=source.shape,
        mean=source.mean,
        variance=source.variance,
    )


def build(config: Config, source: Source) -> tf.keras.Model:
    """The untrained network, under Keras's global precision policy."""
    model = models.build(architecture(config, source))
    if config.freeze_gates:
        for module in attention_modules(model):
            module.trainable = False
    return model


def optimizer(config: Config, steps: int) -> tf.keras.optimizers.Optimizer:
    """The optimizer, whose schedule ends after `epochs` of so many steps."""
    rate: Any = config.learning_rate
    total = steps * config.epochs
    if config.schedule == "cosine":
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, total)
    if config.schedule == "one-cycle":
        warmup = max(1, int(total * config.warmup))
        rate = tf.keras.optimizers.schedules.CosineDecay(
            rate / 25, total - warmup, warmup_target=rate, warmup_steps=warmup
        )
    decay = config.weight_decay or None
    if config.optimizer == "sgd":
        return tf.keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return tf.keras.optimizers.Adam(rate, weight_decay=decay)
