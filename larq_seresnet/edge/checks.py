"""What runtimes rely upon and do not check themselves: files that break it would crash them."""

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.model_file import ModelFile, Operator, Subgraph, Tensor
from larq_seresnet.edge.operator_checks import check_operator

# Fields of an operator's table in which its options are, by the operator: the field of their type,
# which number the type must have, the field of the options, and in these the called subgraphs'.
_CALLS = {
    "CALL": (3, 16, 4, (0,)),
    "IF": (3, 92, 4, (0, 1)),
    "WHILE": (3, 93, 4, (0, 1)),
    "CALL_ONCE": (3, 103, 4, (0,)),
    "STABLEHLO_REDUCE": (11, 6, 12, (1,)),
    "STABLEHLO_SCATTER": (11, 7, 12, (6,)),
    "STABLEHLO_REDUCE_WINDOW": (11, 13, 12, (5,)),
    "STABLEHLO_SORT": (11, 14, 12, (2,)),
    "STABLEHLO_WHILE": (11, 15, 12, (0, 1)),
    "STABLEHLO_COMPOSITE": (11, 21, 12, (1,)),
    "STABLEHLO_CASE": (11, 23, 12, ()),
}
# Of how many inputs an operator needs the first ones, where it does not need all.
_NEEDED = {"CONV_2D": 2, "CONV_3D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2}
_NEEDED |= {"CONV_3D_TRANSPOSE": 3, "TRANSPOSE_CONV": 3, "SVDF": 2, "RNN": 2, "LSTM": 1}
for _name in ("SEQUENCE_LSTM", "SEQUENCE_RNN"):
    _NEEDED |= {f"UNIDIRECTIONAL_{_name}": 1, f"BIDIRECTIONAL_{_name}": 1}
_MAX_NESTING, _MAX_EXPANDED = 32, 10_000


def check(file: ModelFile) -> None:
    """Refuses graphs that would make a runtime read or write what it must not.

    Raises:
        ModelError: Says what is wrong.
    """
    for subgraph in file.subgraphs:
        _check_indices(subgraph)
        _check_order(subgraph)
        for operator in subgraph.operators:
            check_operator(file, subgraph, operator)
    _check_variables(file)
    sizes: dict[int, tuple[int, int]] = {}
    for index in range(len(file.subgraphs)):
        _measure(file, index, (), sizes)


def called_subgraphs(file: ModelFile, operator: Operator) -> tuple[int, ...]:
    """The subgraphs that a control-flow operator runs."""
    if operator.is_custom or operator.name not in _CALLS:
        return ()
    type_field, type_number, field, numbers = _CALLS[operator.name]
    options = operator.table.table(field)
    if options is None or operator.table.number(type_field, "<B") != type_number:
        raise ModelError(f"the file is damaged: {operator.name} does not say what it runs")
    called = tuple(options.number(number) for number in numbers)
    if operator.name == "STABLEHLO_CASE":
        called = options.integers(0)
    if any(not 0 <= index < len(file.subgraphs) for index in called):
        raise ModelError(f"the file is damaged: {operator.name} runs a subgraph that is missing")
    return called


def reached_subgraphs(file: ModelFile, main: int) -> set[int]:
    """The subgraphs that may run at each inference: `main` and what it calls."""
    reached: set[int] = set()
    waiting = [main]
    while waiting:
        index = waiting.pop()
        reached.add(index)
        for operator in file.subgraphs[index].operators:
            if operator.name != "CALL_ONCE":  # that is for initial values
                waiting += set(called_subgraphs(file, operator)) - reached
    return reached


def trusted_tensors(subgraph: Subgraph) -> set[int]:
    """The tensors whose shapes must be what the file says, or kernels read beyond their ends."""
    uses = {"ASSIGN_VARIABLE": 1, "REVERSE_SEQUENCE": 0}
    return {op.inputs[uses[op.name]] for op in subgraph.operators if op.name in uses}


def _check_indices(subgraph: Subgraph) -> None:
    count = len(subgraph.tensors)
    required = [*subgraph.inputs, *subgraph.outputs]
    optional: list[int] = []
    for operator in subgraph.operators:
        # Runtimes crash where a builtin operator lacks an input that it needs.
        needed = 0 if operator.is_custom else _NEEDED.get(operator.name, len(operator.inputs))
        if len(operator.inputs) < needed:
            raise ModelError(f"{operator.name} has {len(operator.inputs)} inputs")
        required += [*operator.inputs[:needed], *operator.outputs]
        optional += [*operator.inputs[needed:], *operator.intermediates]
    if any(not 0 <= i < count for i in required) or any(not -1 <= i < count for i in optional):
        raise ModelError("the file is damaged: an operator's tensor is missing")


def _check_order(subgraph: Subgraph) -> None:
    """Each tensor is computed once, before it is used, and is nothing that has a value already."""
    tensors = subgraph.tensors
    for index in subgraph.inputs:
        if tensors[index].is_constant:
            raise ModelError(f"input '{tensors[index].name}' is a constant")
    given = {i for i, tensor in enumerate(tensors) if tensor.is_constant or tensor.is_variable}
    given.update(subgraph.inputs)
    computed: set[int] = set()
    # A constant without elements has no bytes either, and looks like what is to be computed; but
    # for strings, whose bytes say that there are none.
    known = given | {i for i, x in enumerate(tensors) if 0 in x.shape and x.type != "string"}
    for operator in subgraph.operators:
        for index in operator.inputs:
            if index >= 0 and index not in known:
                raise _misuse(subgraph, operator, index, "uses", "before it is computed")
        for index in operator.outputs:
            if index in given:
                raise _misuse(subgraph, operator, index, "computes", "which has a value already")
            if index in computed:
                raise _misuse(subgraph, operator, index, "computes", "a second time")
            computed.add(index)
            known.add(index)
    for index in subgraph.outputs:
        if index not in known:
            raise ModelError(f"output '{tensors[index].name}' is never computed")


def _misuse(subgraph: Subgraph, operator: Operator, index: int, verb: str, what: str) -> ModelError:
    return ModelError(f"{operator.name} {verb} tensor '{subgraph.tensors[index].name}' {what}")


def _check_variables(file: ModelFile) -> None:
    """Refuses variables that would be read beyond their end."""
    found: dict[tuple[str, str], Tensor] = {}
    for subgraph in file.subgraphs:
        handles: dict[int, tuple[str, str]] = {}
        for operator in subgraph.operators:
            if operator.name == "VAR_HANDLE" and operator.options:
                names = operator.options.text(0), operator.options.text(1)
                handles.update(dict.fromkeys(operator.outputs, names))
            elif operator.name in ("READ_VARIABLE", "ASSIGN_VARIABLE"):
                handle, index = (*operator.inputs, *operator.outputs)
                if handle in handles:
                    tensor = subgraph.tensors[index]
                    other = found.setdefault(handles[handle], tensor)
                    if (tensor.type, tensor.shape) != (other.type, other.shape):
                        raise ModelError(f"variable '{handles[handle][1]}' has several shapes")


def _measure(
    file: ModelFile, index: int, callers: tuple[int, ...], known: dict[int, tuple[int, int]]
) -> tuple[int, int]:
    """How deeply a subgraph calls others, and how many there are if each call counts."""
    if index in callers:
        raise ModelError("a subgraph calls itself")
    if index not in known:
        depth, total = 1, 1
        if len(callers) < _MAX_NESTING:
            for operator in file.subgraphs[index].operators:
                for called in called_subgraphs(file, operator):
                    below, count = _measure(file, called, (*callers, index), known)
                    depth, total = max(depth, below + 1), total + count
        else:
            depth = _MAX_NESTING + 1
        if depth > _MAX_NESTING or total > _MAX_EXPANDED:
            raise ModelError("subgraphs call each other too deeply or too often")
        known[index] = depth, total
    return known[index]
