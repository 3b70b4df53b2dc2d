"""The command `info`."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from larq_seresnet.edge.checks import check
from larq_seresnet.edge.errors import printable
from larq_seresnet.edge.model_file import LCE_OPERATORS, ModelFile, Subgraph, read_file
from larq_seresnet.edge.unpack import unpack_constants


@dataclass(frozen=True)
class Info:
    """Print what a model consists of; nothing is run."""

    model: str = field(metadata={"help": "a .tflite file"})
    json: bool = field(default=False, metadata={"help": "print JSON"})

    def run(self) -> int:
        """Returns the exit status."""
        report = describe(read_file(self.model))
        if self.json:
            print(json.dumps(report, indent=2))
            return 0
        print(f"{self.model}: {report['bytes']:,} bytes, {report['constant_bytes']:,} of constants")
        for kind in ("inputs", "outputs"):
            for tensor in report[kind]:
                print(f"{kind[:-1]}: {tensor['type']}{tensor['shape']} {printable(tensor['name'])}")
        if report["signatures"]:
            print("signatures: " + ", ".join(printable(s["key"]) for s in report["signatures"]))
        print(_count_text("operators", report["operators"]))
        if report["operators_after_unpacking"] != report["operators"]:
            print(_count_text("once loaded", report["operators_after_unpacking"]))
        print(f"needs the native delegate: {'yes' if report['needs_delegate'] else 'no'}")
        for key, value in report["metadata"].items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{printable(key)}: {printable(text)}")
        return 0


def _count_text(title: str, counts: dict[str, int]) -> str:
    entries = (f"{count} {printable(name)}" for name, count in counts.items())
    return f"{title}: " + ", ".join(entries)


def describe(data: bytes) -> dict[str, Any]:
    """What `info --json` prints about a file's bytes."""
    file = ModelFile(data)
    check(file)
    operators = (operator.name for graph in file.subgraphs for operator in graph.operators)
    loaded = _count(unpack_constants(file).operators)
    main, names = file.subgraphs[0], file.signature(None)
    return {
        "bytes": len(data),
        "constant_bytes": sum(len(buffer) for buffer in file.buffers),
        "inputs": _tensors(main, main.inputs, dict(names.inputs)),
        "outputs": _tensors(main, main.outputs, dict(names.outputs)),
        "signatures": [asdict(signature) for signature in file.signatures],
        "operators": _count(operators),
        "operators_after_unpacking": loaded,
        "needs_delegate": any(name in loaded for name in LCE_OPERATORS),
        "metadata": file.metadata,
    }


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _tensors(
    graph: Subgraph, indices: tuple[int, ...], names: dict[int, str]
) -> list[dict[str, Any]]:
    tensors = [(names.get(index), graph.tensors[index]) for index in indices]
    return [
        {"name": name or t.name, "type": t.type, "shape": list(t.signature)} for name, t in tensors
    ]
