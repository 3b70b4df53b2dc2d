"""Joins what lies between binary convolutions into operators of the native delegate.

Batch norm that did not fold, the gate, the shortcut, ReLU, the gate's binarization and the signs
of the result go over a whole tensor each, and in small networks take longer than the convolutions.
They become the tail of the convolution before them (`EdgeBconv2d`), or one operator where there is
none (`EdgeElementwise`). Block by block, while the values are in the cache, these do the same in
the same order: results are equal to the last bit (native/tail.h names the exceptions). `EdgeMean`
is the average that a gate is computed from; its sum has another order than TensorFlow Lite's.

In networks with float activations this is the binarized gate and what it multiplies: XNNPACK, which
takes the rest, has no comparison.

Such models are made on loading and never written. The delegate checks them as any others.
"""

import math
from dataclasses import dataclass, field

from larq_seresnet.edge.model_file import ModelFile, Operator, Subgraph
from larq_seresnet.edge.rewrite import Folded, Replacement, write

# As in native/tail.h.
_SHIFT, _SCALE, _GATE, _RESIDUAL, _STEP, _RELU, _FLOAT, _BITS = (1 << i for i in range(8))
_ACTIVATIONS = {0: 0, 1: _RELU}
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LceBconv2d"}
_BINARY_SPEED = 16  # products of bits in the time of a float one, about


def fuse(model: ModelFile) -> bytes:
    """The model's bytes with joined operators, or as they are where there are none to join.

    Args:
        model: A model whose constant subgraphs are constants; `checks.check` has seen it.
    """
    folded = [_Fusion(model, subgraph).run() for subgraph in model.subgraphs]
    return write(model, folded)[0] if any(part.removed for part in folded) else model.data


def is_mostly_binary(model: ModelFile) -> bool:
    """Whether a model's binary convolutions take longer than its float layers."""
    binary = floats = 0
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator.name not in _WEIGHTED or len(operator.inputs) < 2 or not operator.outputs:
                continue
            weights, result = graph.tensors[operator.inputs[1]], graph.tensors[operator.outputs[0]]
            products = math.prod(weights.shape) * math.prod(result.shape[:-1])
            if operator.name == "LceBconv2d":
                binary += 32 * products  # to a word
            else:
                floats += products
    return binary > _BINARY_SPEED * floats


@dataclass
class _Tail:
    """Operators that are joined: first the convolution, if there is one."""

    source: int  # the tensor that the tail begins with
    result: int
    members: list[int]
    flags: int = 0
    operands: list[int] = field(default_factory=list)

    def can_take(self, flag: int) -> bool:
        """Whether the flag's operation comes after all that are there."""
        return self.flags < flag

    def take(self, flag: int, operand: int) -> None:
        self.flags |= flag
        self.operands.append(operand)


class _Fusion:
    """The joining of one subgraph's operators."""

    def __init__(self, model: ModelFile, graph: Subgraph) -> None:
        self._model, self._graph = model, graph
        self._tensors, self._operators = graph.tensors, graph.operators
        self._readers = graph.readers()
        self._folded = Folded()
        self._made: set[int] = set()  # by convolutions with a tail
        self._sources: set[int] = set()  # of tails that stand alone
        self._gates: set[int] = set()  # binarized by a tail

    def run(self) -> Folded:
        for number, operator in enumerate(self._operators):
            if operator.name == "LceBconv2d" and len(operator.outputs) == 1:
                self._follow(number, operator)
        for number, operator in enumerate(self._operators):
            if (
                operator.name in ("ADD", "MUL", "GREATER_EQUAL")
                and number not in self._folded.removed
            ):
                self._stand_alone(number, operator)
        for number, operator in enumerate(self._operators):
            if operator.name == "MEAN" and self._is_gate_average(operator):
                self._replace(
                    number, Replacement("EdgeMean", operator.inputs[:1], operator.outputs)
                )
        return self._folded

    def _follow(self, number: int, operator: Operator) -> None:
        """Gives a convolution its tail."""
        (result,) = operator.outputs
        if self._tensors[result].type != "float32" or len(operator.inputs) != 5:
            return
        tail = self._extended(_Tail(result, result, [number]))
        signs = self._signs_of(tail.result)
        if tail.flags or signs is not None:
            self._made.add(tail.result)
            self._join(tail, signs, "EdgeBconv2d", operator.inputs, operator.custom_options)

    def _stand_alone(self, number: int, operator: Operator) -> None:
        """Makes an operator of a tail without a convolution, where that spares passes."""
        for source in operator.inputs:
            tail = _Tail(source, source, [])
            if source < 0 or self._tensors[source].is_constant or not self._take(tail, number):
                continue
            tail = self._extended(tail)
            signs = self._signs_of(tail.result)
            is_gated = tail.flags & _GATE and (
                source in self._made or tail.operands[0] in self._gates
            )
            if tail.flags == _STEP and self._is_gate(tail.result):
                self._gates.add(tail.result)
                is_gated = True
            if signs is not None or is_gated:
                self._sources.add(source)
                self._join(tail, signs, "EdgeElementwise", (source,), b"")
                return

    def _is_gate_average(self, operator: Operator) -> bool:
        if operator.is_custom or operator.outputs[0] not in self._sources:
            return False
        source, result = (self._tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        axes = self._model.constant(self._tensors[operator.inputs[1]])
        return (
            operator.inputs[0] in self._made
            and len(source.shape) == 4
            and result.shape in (source.shape[::3], (source.shape[0], 1, 1, source.shape[3]))
            and axes is not None
            and sorted(axis % 4 for axis in axes.ravel().tolist()) == [1, 2]
        )

    def _is_gate(self, index: int) -> bool:
        return any(self._operators[number].name == "MUL" for number in self._readers[index])

    def _extended(self, tail: _Tail) -> _Tail:
        """The tail with all that follows and can be joined."""
        while True:
            readers = self._readers[tail.result]
            is_inner = len(readers) == 1 and tail.result not in self._graph.outputs
            if not is_inner or not self._take(tail, readers[0]):
                return tail

    def _take(self, tail: _Tail, number: int) -> bool:
        """Joins an operator that reads the tail's result; False where it is none of ours."""
        operator = self._operators[number]
        if operator.is_custom or number in self._folded.removed or len(operator.outputs) != 1:
            return False
        if operator.name == "GREATER_EQUAL":
            return self._take_step(tail, number, operator)
        if operator.name == "RELU":
            flag, relu = 0, _RELU
        else:
            activation = operator.options.number(0, "<b") if operator.options else 0
            flag, relu = self._kind(tail, operator), _ACTIVATIONS.get(activation, -1)
            if not flag or relu < 0:
                return False
        if not self._is_like(operator.outputs[0], tail.result) or tail.flags >= _STEP:
            return False
        if flag:
            a, b = operator.inputs
            tail.take(flag, b if a == tail.result else a)
        tail.flags |= relu
        tail.result = operator.outputs[0]
        tail.members.append(number)
        return True

    def _kind(self, tail: _Tail, operator: Operator) -> int:
        """The flag of an addition or multiplication, 0 where it is of no use."""
        if len(operator.inputs) != 2 or operator.inputs.count(tail.result) != 1:
            return 0
        a, b = operator.inputs
        other, own = self._tensors[b if a == tail.result else a], self._tensors[tail.result]
        if other.type != "float32" or not own.shape:
            return 0
        channels = own.shape[-1]
        if other.is_constant:
            is_norm = other.shape and other.shape[-1] == channels == other.nbytes // 4
            flag = {"ADD": _SHIFT, "MUL": _SCALE}.get(operator.name, 0) if is_norm else 0
        elif operator.name == "ADD":
            flag = _RESIDUAL if self._is_like(b if a == tail.result else a, tail.result) else 0
        else:
            is_gate = len(own.shape) == 4 and other.signature == (own.signature[0], 1, 1, channels)
            flag = _GATE if operator.name == "MUL" and is_gate else 0
        return flag if tail.can_take(flag) else 0

    def _take_step(self, tail: _Tail, number: int, operator: Operator) -> bool:
        """Joins 1 where >= a constant, else 0: a comparison whose result becomes a number."""
        result, threshold = operator.outputs[0], operator.inputs[-1]
        readers = self._readers[result]
        if (
            tail.flags >= _STEP
            or operator.inputs != (tail.result, threshold)
            or result in self._graph.outputs
            or len(readers) != 1
            or self._operators[readers[0]].name != "CAST"
        ):
            return False
        constant, number_of = self._tensors[threshold], self._operators[readers[0]].outputs[0]
        if not (constant.is_constant and constant.type == "float32" and constant.nbytes == 4):
            return False
        if not self._is_like(number_of, tail.result):
            return False
        tail.take(_STEP, threshold)
        tail.result = number_of
        tail.members += [number, readers[0]]
        return True

    def _is_like(self, index: int, other: int) -> bool:
        a, b = self._tensors[index], self._tensors[other]
        return a.type == b.type == "float32" and (a.shape, a.signature) == (b.shape, b.signature)

    def _signs_of(self, index: int) -> int | None:
        """The number of the operator that takes a tensor's signs."""
        names = ((number, self._operators[number].name) for number in self._readers[index])
        return next((number for number, name in names if name == "LceQuantize"), None)

    def _join(
        self, tail: _Tail, signs: int | None, name: str, inputs: tuple[int, ...], options: bytes
    ) -> None:
        outputs = []
        others = [number for number in self._readers[tail.result] if number != signs]
        if others or tail.result in self._graph.outputs or signs is None:
            tail.flags |= _FLOAT
            outputs.append(tail.result)
        if signs is not None:
            tail.flags |= _BITS
            outputs += self._operators[signs].outputs
            self._folded.removed.add(signs)
        self._folded.removed.update(tail.members)
        operator = Replacement(
            name, (*inputs, *tail.operands), tuple(outputs), bytes([tail.flags]) + options
        )
        self._replace(max(tail.members), operator)

    def _replace(self, number: int, operator: Replacement) -> None:
        self._folded.removed.add(number)
        self._folded.added[number] = operator
