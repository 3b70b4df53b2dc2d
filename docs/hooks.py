"""Shows files that lie elsewhere in the repository: results, and the README as first page."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path("training/results")
REPORT = RESULTS / "report"


def on_files(files: Files, config: Any) -> Files:
    """Add the report, pictures and tables that pages show, and the README."""
    files.append(File.generated(config, "index.md", abs_src_path=str(Path("README.md").absolute())))
    shown = {*REPORT.iterdir(), *RESULTS.glob("*/*.png"), *RESULTS.glob("paper/fleet/*.csv")}
    for path in sorted(shown):
        name, source = path.relative_to(RESULTS).as_posix(), str(path.absolute())
        files.append(File.generated(config, name, abs_src_path=source))
    return files


def on_page_markdown(markdown: str, **arguments: Any) -> str:
    """Turn links that are right in the repository into the site's."""
    for there, here in (
        ("](docs/", "]("),
        (f"](../{RESULTS}/", "]("),
        ("](CONTRIBUTING.md)", "](how-it-is-built.md)"),
    ):
        markdown = markdown.replace(there, here)
    return markdown
