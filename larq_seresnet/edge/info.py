"""The command `info`."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from larq_seresnet.edge.model_file import LCE_OPERATORS, ModelFile, Subgraph
from larq_seresnet.edge.unpack import unpack_constants


@dataclass(frozen=True)
class Info:
    """Print what a model consists of; nothing is run."""

    model: str = field(metadata={"help": "a .tflite file"})
    json: bool = field(default=False, metadata={"help": "print JSON"})

    def run(self) -> int:
        """Returns the exit status."""
        report = describe(Path(self.model).read_bytes())
        if self.json:
            print(json.dumps(report, indent=2))
            return 0
        print(f"{self.model}: {report['bytes']:,} bytes, {report['constant_bytes']:,} of constants")
        for kind in ("inputs", "outputs"):
            for tensor in report[kind]:
                print(f"{kind[:-1]}: {tensor['type']}{tensor['shape']} {tensor['name']}")
        print(_count_text("operators", report["operators"]))
        if report["operators_after_unpacking"] != report["operators"]:
            print(_count_text("once loaded", report["operators_after_unpacking"]))
        print(f"needs the native delegate: {'yes' if report['needs_delegate'] else 'no'}")
        for key, value in report["metadata"].items():
            print(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
        return 0


def _count_text(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{count} {name}" for name, count in counts.items())


def describe(data: bytes) -> dict[str, Any]:
    """What `info --json` prints about a file's bytes."""
    file = ModelFile(data)
    loaded = _count(ModelFile(unpack_constants(file)))
    main = file.subgraphs[0]
    return {
        "bytes": len(data),
        "constant_bytes": sum(len(buffer) for buffer in file.buffers),
        "inputs": _tensors(main, main.inputs),
        "outputs": _tensors(main, main.outputs),
        "operators": _count(file),
        "operators_after_unpacking": loaded,
        "needs_delegate": any(name in loaded for name in LCE_OPERATORS),
        "metadata": file.metadata,
    }


def _count(file: ModelFile) -> dict[str, int]:
    names = (operator.name for graph in file.subgraphs for operator in graph.operators)
    return dict(Counter(names).most_common())


def _tensors(graph: Subgraph, indices: tuple[int, ...]) -> list[dict[str, Any]]:
    tensors = [graph.tensors[index] for index in indices]
    return [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in tensors]
