"""What a network costs a device: multiply-adds, weights, and memory for its activations.

Larq's summary with what it lacks: the multiply-adds of squeeze-and-excitation, and activations.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from larq.models import LayerProfile, LayersTable, ModelProfile, OperationProfile, SummaryTable

from larq_seresnet._tensorflow import tf
from larq_seresnet.layers import SqueezeExcite
from larq_seresnet.nested import calls, flat

_IN_PLACE = (tf.keras.layers.BatchNormalization, tf.keras.layers.ReLU)


@dataclass(frozen=True)
class Costs:
    """What a network takes for one image.

    Attributes:
        multiply_adds: Of convolutions and dense layers.
        binary_multiply_adds: Of these, those of +1 and -1 with +1 and -1.
        weight_bytes: Of all weights, 1-bit ones as bits, as Larq counts them.
        activation_bytes: The most that must be in memory at once: a layer's inputs and outputs, and
            what later layers read; batch norm and ReLU overwrite what no other layer reads. Values
            are float32; those that binary convolutions read are there as bits too, or only, as in
            Larq Compute Engine.
    """

    multiply_adds: int
    binary_multiply_adds: int
    weight_bytes: int
    activation_bytes: int


def costs(model: tf.keras.Model) -> Costs:
    """Count what a functional or sequential model takes.

    Raises:
        ValueError: The size of its inputs is not known.
    """
    model = flat(model)
    profile = _Profile(model)
    operations = profile.op_count("mac"), profile.op_count("mac", 1)
    return Costs(*operations, -(-profile.memory // 8), _activations(model)[1])


def summary(model: tf.keras.Model, print_fn: Callable[[str], Any] = print) -> None:
    """Print what each layer of a functional or sequential model takes, and the whole.

    Raises:
        ValueError: The size of the model's inputs is not known.
    """
    model = flat(model)
    profile = _Profile(model)
    sizes, peak = _activations(model)
    kib = [sizes[layer.name] / 1024 for layer in model.layers]
    column = ["Activations\n(kB)", *kib, f"{peak / 1024:.2f} at most"]
    rows = [[*row, cell] for row, cell in zip(profile.generate_table(), column, strict=True)]
    print_fn(LayersTable(rows, title=f"{model.name} stats").table)
    facts = [*profile.generate_summary(), ["Activations at once", f"{peak / 1024:.2f} KiB"]]
    print_fn(SummaryTable(facts, title=f"{model.name} summary").table)


class _LayerProfile(LayerProfile):
    def __init__(self, layer: tf.keras.layers.Layer) -> None:
        super().__init__(layer)
        convs = [layer.squeeze, layer.excite] if isinstance(layer, SqueezeExcite) else []
        for conv in map(LayerProfile, convs):
            kernel = conv.weight_profiles[0]
            precision = max(conv.input_precision or 32, kernel.bitwidth)
            self.op_profiles.append(OperationProfile(kernel.count, precision, "mac"))

    def op_count(self, op_type: str | None = None, precision: int | None = None) -> int:
        """Of other layers none, where Larq says that it does not know."""
        return sum(op.n for op in self.op_profiles if precision in (None, op.precision))


class _Profile(ModelProfile):
    def __init__(self, model: tf.keras.Model) -> None:
        self.name = model.name
        self.layer_profiles = [_LayerProfile(layer) for layer in model.layers]


def _activations(model: tf.keras.Model) -> tuple[Counter[str], int]:
    """The bytes that each layer gives, by its name, and the most that is in memory at once."""
    if any(None in x.shape[1:] for x in model.inputs):
        raise ValueError("the size of the model's inputs is not known")
    steps = list(calls(model))
    readers = defaultdict(list)
    for number, step in enumerate(steps):
        for x in step.keras_inputs:
            readers[id(x)].append(number)
    for x in model.outputs:
        readers[id(x)].append(len(steps))

    binary = {number for number, step in enumerate(steps) if _reads_bits(step.layer)}

    given: Counter[str] = Counter()
    alive: dict[int, tuple[int, int]] = {}  # size, and the step that reads it last
    peak = 0
    for number, step in enumerate(steps):
        inputs = [id(x) for x in step.keras_inputs]
        if isinstance(step.layer, _IN_PLACE) and readers[inputs[0]] == [number]:
            del alive[inputs[0]]
        for x in tf.nest.flatten(step.outputs):
            users = readers[id(x)]
            size = _bits(x) if users and binary.issuperset(users) else 4 * prod(x.shape[1:])
            given[step.layer.name] += size
            alive[id(x)] = size, max(users, default=number)
        read = step.keras_inputs if number in binary else []
        copies = sum(_bits(x) for x in read if not binary.issuperset(readers[id(x)]))
        peak = max(peak, copies + sum(size for size, _ in alive.values()))
        alive = {x: (size, last) for x, (size, last) in alive.items() if last > number}
    return given, peak


def _reads_bits(layer: tf.keras.layers.Layer) -> bool:
    is_conv = isinstance(layer, tf.keras.layers.Conv2D)
    return is_conv and LayerProfile(layer).input_precision == 1


def _bits(x: Any) -> int:
    """The bytes of a tensor of bits, in words of 32 channels."""
    return prod(x.shape[1:-1]) * 4 * -(-x.shape[-1] // 32)
