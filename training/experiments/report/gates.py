"""The report's section on gates: what `python -m larq_seresnet.inspect --json` found."""

from pathlib import Path

import numpy as np

from larq_seresnet.inspect import GateStatistics
from larq_seresnet.inspect.picture import draw
from training.experiments.records import read_json
from training.experiments.report.page import Page


def add(page: Page, results: Path) -> None:
    """A table and a picture, channels x depth, for each of `gates/*.json`."""
    for file in sorted(results.glob("gates/*.json")):
        found = read_json(file)
        networks = {
            name: [
                GateStatistics(m["module"], m["fmb"], np.array(m["on"]), m["channels"])
                for m in modules
            ]
            for name, modules in found["networks"].items()
        }
        rows = [
            [
                *(name, "yes" if m.fmb else "no", m.module, len(m.on)),
                *(m.always_on, m.always_off, m.dependent, f"{100 * m.on.mean():.1f}"),
            ]
            for name, modules in networks.items()
            for m in modules
        ]
        about = {**found["images"], "images": f"{found['images']['count']:,}", "name": file.stem}
        picture = page.picture(f"gates_{file.stem}", draw(networks))
        page.table("gates", rows, file=picture, **about)
