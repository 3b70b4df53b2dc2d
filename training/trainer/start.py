"""The trained network that a run starts from (`--start-from`)."""

from pathlib import Path

import tensorflow as tf

from larq_seresnet.architecture import Architecture
from training import UserError

# The flags decide them: they are not the network's.
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
    try:
        differences = Architecture.of(found).differences(Architecture.of(like))
    except ValueError as error:
        raise UserError(f"--start-from {source}: {error}") from error
    for name, theirs, ours in differences:
        raise UserError(
            f"--start-from {source} is another network than the flags say: "
            f"its {name.replace('_', ' ')} is {theirs}, not {ours}"
        )
    wanted = {layer.name: layer for layer in like.layers}
    for layer in found.layers:
        if type(layer) is not type(wanted.get(layer.name)):
            raise UserError(
                f"--start-from {source} is another network than the flags say: "
                f"it has a {type(layer).__name__} {layer.name}"
            )

    def rebuild(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        config = wanted[layer.name].get_config()
        taken = {key: config[key] for key in _TAKEN if key in config}
        return type(layer).from_config({**layer.get_config(), **taken})

    model = tf.keras.models.clone_model(found, clone_function=rebuild)
    model.set_weights(found.get_weights())
    return model
