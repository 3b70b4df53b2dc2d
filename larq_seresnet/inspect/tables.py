"""Gate statistics as text, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from larq_seresnet.inspect import GateStatistics

Networks = Mapping[str, Sequence[GateStatistics]]
"""By a network's name, its modules."""


def as_text(networks: Networks) -> str:
    """A table, one line a module."""
    columns = ("module", "channels", "pruned", "always on", "always off", "dependent", "on average")
    lines = []
    for name, modules in networks.items():
        gates = "with FMB" if modules[0].fmb else "without FMB"
        lines += [f"{name} ({gates})", "  ".join(f"{column:>10}" for column in columns)]
        for m in modules:
            cells = (
                m.module,
                m.channels,
                m.channels - len(m.on),
                m.always_on,
                m.always_off,
                m.dependent,
                f"{100 * m.on.mean():.1f} %",
            )
            lines.append("  ".join(f"{cell:>10}" for cell in cells))
        lines.append("")
    return "\n".join(lines).rstrip()


def as_csv(networks: Networks) -> str:
    """One row a channel."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(("network", "module", "fmb", "channel", "on"))
    for name, modules in networks.items():
        for m in modules:
            writer.writerows(
                (name, m.module, int(m.fmb), channel, f"{share:.6g}")
                for channel, share in enumerate(m.on)
            )
    return table.getvalue()


def as_json(networks: Networks, images: Mapping[str, Any]) -> str:
    """An object; `images` says which images these were."""
    return json.dumps(
        {
            "images": dict(images),
            "networks": {
                name: [
                    {
                        "module": m.module,
                        "fmb": m.fmb,
                        "channels": m.channels,
                        "pruned": m.channels - len(m.on),
                        "always_on": m.always_on,
                        "always_off": m.always_off,
                        "dependent": m.dependent,
                        "on": [round(float(share), 6) for share in m.on],
                    }
                    for m in modules
                ]
                for name, modules in networks.items()
            },
        },
        indent=1,
    )
