"""Builds the network without the chosen channels."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_seresnet import attention
from larq_seresnet._tensorflow import tf
from larq_seresnet.nested import flat
from larq_seresnet.prune.channels import Channels, Layer, mixes
from larq_seresnet.prune.selection import Choice, narrowed


def remove(model: tf.keras.Model, choices: Sequence[Choice]) -> tf.keras.Model:
    """The network without the chosen channels; see `larq_seresnet.prune.prune`.

    Raises:
        ValueError: The network's channels cannot be followed from layer to layer.
    """
    model = flat(flat(model), [choice.module for choice in choices if choice.left_out])
    plain = tf.keras.models.clone_model(model)  # whose every layer is used once
    channels = Channels(plain)
    orders, cuts = _plan(plain, channels, {choice.module: choice for choice in choices})

    def rebuild(layer: Layer) -> Layer:
        config = model.get_layer(layer.name).get_config()
        if layer.name in cuts:
            return narrowed(model.get_layer(layer.name), **cuts[layer.name])
        order = orders.get(channels.of(layer.output))
        if mixes(layer) and order is not None:
            config["units" if isinstance(layer, tf.keras.layers.Dense) else "filters"] = len(order)
        return type(layer).from_config(config)

    pruned = tf.keras.models.clone_model(plain, clone_function=rebuild)
    for layer in plain.layers:
        if layer.name not in cuts:
            weights = model.get_layer(layer.name).get_weights()
            read = orders.get(channels.of(tf.nest.flatten(layer.input)[0]))
            if mixes(layer) and read is not None:
                weights = [w.take(read, axis=-2) if w.ndim > 1 else w for w in weights]
            written = orders.get(channels.of(layer.output))
            if written is not None:
                weights = [w.take(written, axis=-1) for w in weights]
            pruned.get_layer(layer.name).set_weights(weights)
    return pruned


def _plan(
    model: tf.keras.Model, channels: Channels, choices: dict[str, Choice]
) -> tuple[dict[int, np.ndarray], dict[str, dict[str, Any]]]:
    """The new order of each group's channels, without the removed ones; `narrowed`'s arguments."""
    streams = defaultdict(list)
    for module in attention.modules(model):
        streams[channels.of(module.output)].append(module)
    orders: dict[int, np.ndarray] = {}
    cuts = {}
    for stream, modules in streams.items():
        channels.check(stream)
        absent = [  # from the module's output, where it leaves zeros
            np.pad(choices[module.name].removed, module.padding, constant_values=True)
            for module in modules
        ]
        order = orders[stream] = _contiguous(absent)
        for module, gone in zip(modules, absent, strict=True):
            branch = channels.of(module.input)
            channels.check(branch)
            if channels.readers(branch) != [module] or branch in streams:
                raise ValueError(f"what {module.name} scales is used elsewhere too")
            places = np.flatnonzero(~gone[order])
            if np.ptp(places) >= len(places):
                raise ValueError(
                    f"{module.name}: of more than two attention modules that add to the same "
                    "channels, not all can be pruned"
                )
            orders[branch] = order[places] - module.padding[0]
            cuts[module.name] = {
                "kept": orders[branch],
                "padding": (int(places[0]), int(len(order) - 1 - places[-1])),
                "bias": choices[module.name].bias,
            }
    return orders, cuts


def _contiguous(absent: Sequence[np.ndarray]) -> np.ndarray:
    """An order in which the channels that each of two modules keeps are neighbours.

    Those that only the first lacks, those that both have, that only the second lacks, that both do.
    """
    first, last = absent[0], absent[-1]
    place = np.select([first & last, first, last], [3, 0, 2], 1)
    return np.argsort(place, kind="stable")
