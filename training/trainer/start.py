"""The trained network that a run starts from (`--start-from`)."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from training import UserError

# What the flags decide of a layer, besides its size: it must be as they say ...
_AGREE = ("gate", "fmb", "gradient", "mean", "variance", "strides", "activation")
# ... or is made so, since the precision is not the network's.
_TAKEN = ("dtype", "trainable", "kernel_quantizer", "input_quantizer")


def trained_network(source: str, like: tf.keras.Model) -> tf.keras.Model:
    """Load a network and prepare it for training, with its weights.

    Args:
        source: A `.keras` file, or the folder of a run.
        like: The network that the run's flags describe. The loaded one may have fewer channels,
            since it was pruned, and nothing else may differ.

    Raises:
        UserError: It cannot be read, or is another network.
    """
    path = Path(source, "model.keras") if Path(source).is_dir() else Path(source)
    try:
        found = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(f"--start-from {source} is no readable .keras file: {error}") from error
    wanted = {layer.name: layer for layer in like.layers}
    layers = {layer.name: layer for layer in found.layers}
    for name in {**wanted, **layers}:
        difference = _difference(wanted.get(name), layers.get(name))
        if difference:
            raise UserError(
                f"--start-from {source} is another network than the flags say: layer {name} "
                f"{difference}"
            )

    def rebuild(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        config = wanted[layer.name].get_config()
        taken = {key: config[key] for key in _TAKEN if key in config}
        return type(layer).from_config({**layer.get_config(), **taken})

    model = tf.keras.models.clone_model(found, clone_function=rebuild)
    model.set_weights(found.get_weights())
    return model


def _difference(wanted: Any, found: Any) -> str:
    """What is different about a layer; empty where nothing that matters is."""
    if wanted is None or found is None or type(wanted) is not type(found):
        named = ["is missing" if x is None else f"is a {type(x).__name__}" for x in (found, wanted)]
        return f"{named[0]} there, and {named[1]} by the flags"
    ours, theirs = wanted.get_config(), found.get_config()
    for key in _AGREE:
        if ours.get(key) != theirs.get(key):
            return f"has {key} {theirs.get(key)}, not {ours.get(key)}"
    for key in ("kernel_quantizer", "input_quantizer"):
        names = [(config.get(key) or {}).get("class_name") for config in (theirs, ours)]
        if names[0] != names[1]:
            return f"has {key} {names[0]}, not {names[1]}"
    if isinstance(found, tf.keras.layers.Add | tf.keras.layers.Dense):
        widths = [layer.output.shape[-1] for layer in (found, wanted)]
        if widths[0] != widths[1]:
            return f"has {widths[0]} outputs, not {widths[1]}"
    return ""
