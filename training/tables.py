"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; columns whose header ends with a colon, which is not shown, hold numbers.

    Returns:
        Lines without an end of line after the last one.
    """
    lines = [
        [name.removesuffix(":") for name in header],
        ["---:" if name.endswith(":") else "---" for name in header],
        *(list(map(str, row)) for row in rows),
    ]
    return "\n".join(
        f"|{'|'.join(line)}|" if i == 1 else f"| {' | '.join(line)} |"
        for i, line in enumerate(lines)
    )
