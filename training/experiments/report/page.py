"""The report while it is written: what is found, put into the blocks of `text.md`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from larq_seresnet.files import write_atomically
from training import tables
from training.pictures import png

_PARTS = re.split(r"<!-- (.+) -->\n", Path(__file__).with_name("text.md").read_text())
BLOCKS = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


class Page:
    """Grows block by block.

    Attributes:
        blocks: The filled ones.
        pictures: PNG files by their names.
    """

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.pictures: dict[str, bytes] = {}

    def add(self, block: str, **values: object) -> None:
        """Fill a block."""
        self.blocks.append(Template(BLOCKS[block]).substitute(values).strip())

    def table(self, block: str, rows: Iterable[Sequence[object]], **values: object) -> None:
        """Fill a block that has a table; without rows it is left out."""
        if lines := tables.lines(rows):
            self.add(block, rows=lines, **values)

    def picture(self, name: str, figure: Figure) -> str:
        """Keep a picture, and return its file's name."""
        self.pictures[f"{name}.png"] = png(figure)
        return f"{name}.png"

    def write(self, out: Path) -> None:
        """Write the pictures, then the text, which is `report.md`."""
        out.mkdir(parents=True, exist_ok=True)
        for name, content in self.pictures.items():
            write_atomically(out / name, content)
        write_atomically(out / "report.md", ("\n\n".join(self.blocks) + "\n").encode())
