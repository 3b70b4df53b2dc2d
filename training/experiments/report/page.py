"""The report as Markdown and as one self-contained HTML page."""

import base64
from collections.abc import Sequence
from html import escape

from training.experiments.report.tables import Table

TITLE = "What FMB does to the learning curve of a 1-bit SE-ResNet"

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.7rem; border-bottom: 1px solid #8884 }
th { border-bottom: 2px solid #8888 }
figure { margin: 1.5rem 0 } img { max-width: 100%; background: white }
figcaption, .note { font-size: 0.9rem; opacity: 0.8 }
pre { white-space: pre-wrap; font: inherit; font-size: 0.95rem; border-left: 3px solid #8886; padding-left: 1rem }
.reproduced { color: #18794e; font-weight: 600 } .reversed { color: #c02f1d; font-weight: 600 }
.not { color: #b25c00; font-weight: 600 } .undecided { opacity: 0.75 }
"""  # noqa: E501


def markdown(introduction: Sequence[str], rule: str, tables: Sequence[Table]) -> str:
    """The tables in Markdown."""
    parts = [f"# {TITLE}", *introduction, "## The rule for the verdicts", rule]
    for table in tables:
        lines = [_line(table.columns), "|" + "---|" * len(table.columns)]
        parts += [f"## {table.title}", "\n".join([*lines, *map(_line, table.rows)])]
        if table.note:
            parts.append(table.note)
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def html(
    introduction: Sequence[str],
    rule: str,
    tables: Sequence[Table],
    pictures: Sequence[tuple[str, bytes]],
) -> str:
    """The page.

    Args:
        introduction: Paragraphs.
        rule: Of the verdicts.
        tables: In their order.
        pictures: Captions and PNG files.
    """
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in introduction)
    body = "".join(map(_table, tables[:1]))
    body += f"<h2>The rule for the verdicts</h2><pre>{escape(rule)}</pre>"
    body += "".join(map(_table, tables[1:]))
    body += "<h2>Figures</h2>" if pictures else ""
    for caption, png in pictures:
        source = base64.b64encode(png).decode()
        body += (
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head>"
        f"<body><h1>{TITLE}</h1>{paragraphs}{body}</body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{_class(cell)}>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _text(cell: str) -> str:
    """The cell's text, which breaks neither inside a number with its spread nor after >."""
    for together in (" ± ", "n = ", "> "):
        cell = cell.replace(together, together.replace(" ", "\N{NO-BREAK SPACE}"))
    return escape(cell)


def _class(cell: str) -> str:
    word = cell.split(" ")[0]
    known = cell.startswith(("reproduced", "not reproduced", "reversed", "undecided"))
    return f' class="{word}"' if known else ""
