"""The trained network that a run starts from (`--start-from`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from larq_seresnet import models, pretrained, sources
from larq_seresnet.architecture import OF_THE_DATA, Architecture, Hyperparameters
from training import UserError

# The flags decide them: they are not the network's.
_TAKEN = ("dtype", "trainable", "kernel_quantizer", "input_quantizer")


def hyperparameters(source: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a pretrained network, as defaults of the flags; none of other sources.

    Args:
        source: Of `--start-from`.
        chosen: The flags, of which "model", "activations" and "width" say which network is meant.
    """
    try:
        named = {x: chosen[x] for x in ("model", "activations", "width")}
        wanted = Hyperparameters(**named, fmb=True)  # those without have names of their own
        found = pretrained.load(source, wanted.name).architecture if _is_name(source) else None
    except (OSError, ValueError):
        return {}  # which is reported when the network is needed
    return found.hyperparameters if found else {}


def trained_network(
    source: str, like: tf.keras.Model, labels: Sequence[str] | None = None
) -> tf.keras.Model:
    """Load a network and prepare it for training, with its weights.

    Where it was trained on images of other classes, sizes or statistics, its body is taken: all
    layers but the dense one, which is drawn anew, and the standardization.

    Args:
        source: A `.keras` file, the folder of a run, or the name of a pretrained network.
        like: The network that the run's flags describe. The loaded one may have fewer channels,
            since it was pruned, and no other hyperparameter may differ.
        labels: The names of the classes to learn.

    Raises:
        UserError: It cannot be read, or is another network.
    """
    wanted = Architecture.of(like)
    try:
        loaded = sources.load(source, wanted.name)
        found = Architecture.of(loaded.model)
    except ValueError as error:
        raise UserError(f"--start-from {source}: {error}") from error
    differences = list(found.differences(wanted))
    for name, theirs, ours in differences:
        if name not in OF_THE_DATA:
            raise UserError(
                f"--start-from {source} is another network than the flags say: "
                f"its {name.replace('_', ' ')} is {theirs}, not {ours}"
            )
    known = loaded.metadata.get("labels")
    renamed = bool(known and labels) and list(known or ()) != list(labels or ())
    if not differences and not renamed:
        return _rebuilt(loaded.model, like, source)
    trained = pretrained.Pretrained(source, found, loaded.model.get_weights(), {})
    try:
        models.take_body(like, trained)
    except ValueError as error:
        raise UserError(f"--start-from {source}: for other images, {error}") from error
    print(f"starting from {source}, all of its weights but the last layer's", flush=True)
    return like


def _is_name(source: str) -> bool:
    return any(source in (name, name.partition("-")[2]) for name in pretrained.names())


def _rebuilt(found: tf.keras.Model, like: tf.keras.Model, source: str) -> tf.keras.Model:
    """The found network, with what the flags decide."""
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
