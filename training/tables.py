"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; columns whose header ends with a colon, which is not shown, hold numbers.

    Returns:
        Lines without an end of line after the last one.
    """
    names = [name.removesuffix(":") for name in header]
    line = "|".join("---:" if name.endswith(":") else "---" for name in header)
    return f"{lines([names])}\n|{line}|\n{lines(rows)}".rstrip("\n")


def lines(rows: Iterable[Sequence[object]]) -> str:
    """The rows of a table, in which no cell can end a column or a line."""
    cells = [[" ".join(str(cell).replace("|", "\\|").split()) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
