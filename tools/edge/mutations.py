"""Makes files wrong: their bytes, or what they say."""

import copy
import functools
import random
import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

_LIMITS = [2**31 - 1, -(2**31), 2**32 - 1, 2**31, 2**30, 2**16, 65535, 1000]
_INTEGERS = [-129, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 127, 128, 255, 256, *_LIMITS]
_REALS = [0.0, -1.0, 0.5, 1e-38, 1e38, float("inf"), float("nan")]
_TYPES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 18]
_DTYPES = {0: "f4", 2: "i4", 3: "u1", 4: "i8", 6: "u1", 9: "i1"}
_NEWEST_OPERATOR = 208
# This project's, and those that the runtime has itself.
_CUSTOM = ["LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d", "Mfcc"]
_FUSED = ["EdgeBconv2d", "EdgeElementwise", "EdgeMean"]
_CUSTOM += [*_FUSED, "AudioSpectrogram", "NumericVerify", "TFLite_Detection_PostProcess"]
_OPTIONS = [name for name in vars(schema.BuiltinOptions) if hasattr(schema, f"{name}T")]


def damage(data: bytes, random: random.Random) -> bytes:
    """One to four changes of bytes, of the kinds that find most faults."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        kind, place = random.random(), random.randrange(len(changed))
        if kind < 0.35:
            changed[place] ^= 1 << random.randrange(8)
        elif kind < 0.6:
            changed[place] = random.choice([0, 1, 2, 4, 127, 128, 255, random.randrange(256)])
        elif kind < 0.85:
            start = max(0, min(place & ~3, len(changed) - 4))
            value = random.choice(_INTEGERS)
            if random.random() < 0.3:
                old = int.from_bytes(changed[start : start + 4], "little")
                value = old + random.choice([-4, -1, 1, 4, 32])
            changed[start : start + 4] = struct.pack("<I", value % 2**32)
        elif kind < 0.92:
            del changed[max(16, place) :]
        else:
            end = min(len(changed), place + random.randrange(1, 64))
            changed[place:end] = random.randbytes(end - place)
    return bytes(changed)


def distort(data: bytes, random: random.Random) -> bytes:
    """Changes what the file says and keeps it well-formed, so that it gets past the reader."""
    model = copy.deepcopy(_read(data))
    for _ in range(random.choice([1, 1, 2, 3])):
        change = random.choice(_CHANGES)
        change(model, random.choice(model.subgraphs), random)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@functools.cache
def _read(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))


_Change = Callable[[Any, Any, random.Random], None]
_CHANGES: list[_Change] = []


def _change(weight: int) -> Callable[[_Change], _Change]:
    """A change that is made to a model and one of its subgraphs, `weight` times as often."""

    def register(change: _Change) -> _Change:
        _CHANGES.extend([change] * weight)
        return change

    return register


def _integer(old: int, random: random.Random) -> int:
    return random.choice([*_INTEGERS, old - 1, old + 1, 2 * old])


def _fitted(value: int, dtype: Any) -> Any:
    """The value modulo what the type holds."""
    return np.array([value % 2**64], np.uint64).astype(dtype)[0]


def _element(values: Any, random: random.Random) -> np.ndarray:
    """A copy of an array of integers with one of them changed, left out or added."""
    array = np.array(values, copy=True)
    place = random.randrange(len(array) + 1)
    if place == len(array) or random.random() < 0.1:
        return np.append(array, array[-1:]) if random.random() < 0.5 else array[1:]
    array[place] = _fitted(_integer(int(array[place]), random), array.dtype)
    return array


@_change(3)
def _custom_option(model: Any, graph: Any, random: random.Random) -> None:
    """A custom operator's options with another value, another type, or a key less."""
    operators = [op for op in graph.operators if op.customOptions is not None]
    if not operators:
        return
    operator = random.choice(operators)
    data, flags = bytes(operator.customOptions), b""
    code = model.operatorCodes[operator.opcodeIndex % len(model.operatorCodes)].customCode or ""
    name = code if isinstance(code, str) else code.decode(errors="replace")
    if data and name in _FUSED:  # what it does comes first
        flags, data = data[:1], data[1:]
        if random.random() < 0.6:
            flags = bytes([flags[0] ^ 1 << random.randrange(8)])
    try:
        entries = dict(flexbuffers.Loads(data))
        key = random.choice(sorted(entries))
        value = entries.pop(key)
        others = [_integer(2, random), str(value), 1.5, None, [value], {key: value}, True, 2**40]
        if random.random() < 0.8:
            entries[key] = random.choice([_integer(2, random), random.choice(others)])
        data = bytes(flexbuffers.Dumps(entries))
    except Exception:  # an earlier change damaged them
        pass
    data = damage(data, random) if random.random() < 0.4 and data else data
    operator.customOptions = np.frombuffer(flags + data, np.uint8)


@_change(3)
def _builtin_option(model: Any, graph: Any, random: random.Random) -> None:
    """A builtin operator's options with another value, or those of another operator."""
    operators = [op for op in graph.operators if op.builtinOptions is not None]
    if not operators:
        return
    operator = random.choice(operators)
    if random.random() < 0.1:
        name = random.choice(_OPTIONS)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = getattr(schema, f"{name}T")()
        return
    made = operator.builtinOptions = copy.copy(operator.builtinOptions)
    if vars(made):
        name, value = random.choice(sorted(vars(made).items()))
        if isinstance(value, bool):
            setattr(made, name, not value)
        elif isinstance(value, int):
            number = _integer(value, random)
            setattr(made, name, int(_fitted(number, "i4")))
            try:
                made.Pack(flatbuffers.Builder(64))
            except TypeError:  # a field of one byte
                setattr(made, name, number % 128)
        elif isinstance(value, float):
            setattr(made, name, random.choice(_REALS))
        elif isinstance(value, np.ndarray):
            setattr(made, name, _element(value, random))


@_change(3)
def _shape(model: Any, graph: Any, random: random.Random) -> None:
    """Another shape for a tensor, or for all that have its shape."""
    tensor = random.choice(graph.tensors)
    old, shape = list(tensor.shape), [*map(int, tensor.shape)]
    if shape and random.random() < 0.8:
        place = random.randrange(len(shape))
        shape[place] = int(_fitted(_integer(shape[place], random), "i4"))
    else:
        shape = random.choice([shape[1:], [*shape, 1], [1, *shape], shape[::-1]])
    together = [t for t in graph.tensors if list(t.shape) == old]
    for changed in together if random.random() < 0.5 else [tensor]:
        changed.shape = np.array(shape, np.int32)
        buffer = model.buffers[changed.buffer].data
        count = int(np.prod(np.abs(np.float64(shape))))
        if changed.buffer and random.random() < 0.5 and count < 1 << 16:
            size = count * np.dtype(_DTYPES.get(changed.type, "u1")).itemsize
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.resize(buffer, size) if len(buffer) else buffer
            changed.buffer = len(model.buffers) - 1


@_change(1)
def _free_size(model: Any, graph: Any, random: random.Random) -> None:
    tensor = random.choice(graph.tensors)
    signature = np.array(tensor.shape, np.int32)
    if len(signature):
        signature[random.randrange(len(signature))] = -1
    tensor.shapeSignature = signature


@_change(2)
def _type(model: Any, graph: Any, random: random.Random) -> None:
    """Another type for a tensor, or for all that have its type."""
    tensor, new = random.choice(graph.tensors), random.choice(_TYPES)
    old = tensor.type
    for changed in graph.tensors if random.random() < 0.4 else [tensor]:
        changed.type = new if changed.type == old else changed.type


@_change(4)
def _constant(model: Any, graph: Any, random: random.Random) -> None:
    """A constant with another value."""
    constants = [t for t in graph.tensors if t.buffer and len(model.buffers[t.buffer].data)]
    if not constants:
        return
    tensor = random.choice(constants)
    data = np.array(model.buffers[tensor.buffer].data, np.uint8)
    dtype = np.dtype(_DTYPES.get(tensor.type, "i4"))
    values = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
    if len(values):
        place = random.randrange(min(len(values), 64))
        is_real = dtype.kind == "f"
        values[place] = (
            random.choice(_REALS)
            if is_real
            else _fitted(_integer(int(values[place]), random), dtype)
        )
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = data
    tensor.buffer = len(model.buffers) - 1


@_change(1)
def _buffer(model: Any, graph: Any, random: random.Random) -> None:
    random.choice(graph.tensors).buffer = random.randrange(len(model.buffers))


@_change(2)
def _quantization(model: Any, graph: Any, random: random.Random) -> None:
    tensor = random.choice(graph.tensors)
    made = schema.QuantizationParametersT()
    count = random.choice([0, 1, 1, 1, 2, 8])
    made.scale = np.array(random.choices([0.1, 0.5, *_REALS], k=count), np.float32)
    points = random.choice([count, 1, 0])
    made.zeroPoint = np.array(random.choices([0, 3, -128, -129, 128, 2**40], k=points), np.int64)
    made.quantizedDimension = random.choice([0, 0, 0, -1, 1, 3, 100])
    tensor.quantization = random.choice([made, made, made, None])


@_change(1)
def _variable(model: Any, graph: Any, random: random.Random) -> None:
    tensor = random.choice(graph.tensors)
    tensor.isVariable = not tensor.isVariable


@_change(3)
def _inputs(model: Any, graph: Any, random: random.Random) -> None:
    """An operator with another input (which another shares), one less, or one more."""
    if graph.operators:
        operator = random.choice(graph.operators)
        inputs, tensor = [*map(int, operator.inputs)], random.randrange(-1, len(graph.tensors))
        kind = random.random()
        if inputs and kind < 0.7:
            inputs[random.randrange(len(inputs))] = tensor
        else:
            inputs = random.choice([inputs[1:], inputs[:-1], [*inputs, tensor], inputs[::-1]])
        operator.inputs = np.array(inputs, np.int32)


@_change(1)
def _outputs(model: Any, graph: Any, random: random.Random) -> None:
    if graph.operators:
        outputs = random.choices(range(len(graph.tensors)), k=random.choice([0, 1, 1, 2]))
        random.choice(graph.operators).outputs = np.array(outputs, np.int32)


@_change(2)
def _nodes(model: Any, graph: Any, random: random.Random) -> None:
    """A node twice, two nodes in the other order, or a node left out."""
    if not graph.operators:
        return
    place, other = (random.randrange(len(graph.operators)) for _ in range(2))
    kind = random.random()
    if kind < 0.5:  # with a result of its own, which takes the place of the first one's
        double = copy.deepcopy(graph.operators[place])
        double.outputs = np.array(
            [len(graph.tensors) + i for i in range(len(double.outputs))], np.int32
        )
        graph.tensors += [copy.deepcopy(graph.tensors[i]) for i in graph.operators[place].outputs]
        graph.operators.insert(place + 1, double)
        if len(double.outputs) and random.random() < 0.7:
            old, new = graph.operators[place].outputs[0], double.outputs[0]
            for operator in graph.operators[place + 2 :]:
                operator.inputs = np.where(np.array(operator.inputs) == old, new, operator.inputs)
    elif kind < 0.8:
        nodes = graph.operators
        nodes[place], nodes[other] = nodes[other], nodes[place]
    else:
        del graph.operators[place]


@_change(3)
def _operator(model: Any, graph: Any, random: random.Random) -> None:
    """A node that becomes another kind of operator."""
    if graph.operators and random.random() < 0.3:
        random.choice(graph.operators).opcodeIndex = random.randrange(len(model.operatorCodes))
    elif model.operatorCodes:
        code = random.choice(model.operatorCodes)
        code.version = random.choice([code.version, code.version, 1, 2, 3, 7])
        code.builtinCode = random.choice([32, *range(_NEWEST_OPERATOR + 1)])
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = random.choice(_CUSTOM) if code.builtinCode == 32 else code.customCode


@_change(1)
def _ends(model: Any, graph: Any, random: random.Random) -> None:
    """Other inputs or outputs of the graph, or of a signature."""
    field = random.choice(["inputs", "outputs"])
    old = [*map(int, getattr(graph, field))]
    tensor = random.randrange(len(graph.tensors))
    new = [*old[1:], tensor] if random.random() < 0.7 else random.choice([[*old, tensor], old[1:]])
    setattr(graph, field, np.array(new, np.int32))
    for entry in model.signatureDefs or []:
        if random.random() < 0.5:
            entry.subgraphIndex = random.randrange(len(model.subgraphs) + 1)
        for item in [*entry.inputs, *entry.outputs]:
            if random.random() < 0.3:
                item.tensorIndex = random.randrange(len(graph.tensors))


@_change(1)
def _subgraphs(model: Any, graph: Any, random: random.Random) -> None:
    """Two subgraphs in each other's place."""
    first, second = (random.randrange(len(model.subgraphs)) for _ in range(2))
    graphs = model.subgraphs
    graphs[first], graphs[second] = graphs[second], graphs[first]
