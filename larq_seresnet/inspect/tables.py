"""Gate statistics as text, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from larq_seresnet.inspect import GateStatistics

Networks = Mapping[str, Sequence[GateStatistics]]
"""By a network's name, its modules."""

_COLUMNS = ("module", "channels", "pruned", "always_on", "always_off", "dependent")


def as_text(networks: Networks) -> str:
    """A table, one line a module."""
    lines = []
    for name, modules in networks.items():
        rows = [[column.replace("_", " ") for column in _COLUMNS] + ["on average"]]
        rows += [
            [getattr(m, column) for column in _COLUMNS] + [f"{100 * m.on.mean():.1f} %"]
            for m in modules
        ]
        lines.append(f"{name} ({'with' if modules[0].fmb else 'without'} FMB)")
        lines += ["  ".join(f"{cell:>10}" for cell in row) for row in rows]
        lines.append("")
    return "\n".join(lines).rstrip()


def as_csv(networks: Networks) -> str:
    """One row a channel."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(("network", "module", "fmb", "channel", "on"))
    for name, modules in networks.items():
        for m in modules:
            for channel, share in enumerate(m.on):
                writer.writerow((name, m.module, int(m.fmb), channel, f"{share:.6g}"))
    return table.getvalue()


def as_json(networks: Networks, images: Mapping[str, Any]) -> str:
    """An object; `images` says which images these were."""
    found = {
        name: [
            {
                **{column: getattr(m, column) for column in _COLUMNS},
                "fmb": m.fmb,
                "on": [round(float(share), 6) for share in m.on],
            }
            for m in modules
        ]
        for name, modules in networks.items()
    }
    return json.dumps({"images": dict(images), "networks": found}, indent=1)
