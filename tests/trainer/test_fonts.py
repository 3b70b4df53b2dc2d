"""Names in scripts that matplotlib's own font lacks."""

import io
import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager

from training.trainer import fonts


def picture(text):
    file = io.BytesIO()
    figure = Figure(figsize=(1, 1))
    figure.text(0.3, 0.3, text, fontsize=24, parse_math=False)
    figure.savefig(file)
    return file.getvalue()


@pytest.fixture
def warned():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


@pytest.mark.parametrize("name", ["cat", "çà", "犬\t\ue000cat", ""])
def test_what_no_installed_font_has_is_said_once_and_without_warnings(
    name, monkeypatch, tmp_path, warned, capsys
):
    """Nor do fonts matter that are damaged, or were uninstalled since they were listed."""
    (tmp_path / "damaged").write_text("no font")
    useless = [FontEntry(str(tmp_path / name), name) for name in ("damaged", "uninstalled")]
    own = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(fontManager, "ttflist", [*useless, *own])
    with fonts.drawing(name):
        picture(name)

    assert not warned
    said = "no installed font has 犬: pictures show boxes instead\n" if "犬" in name else ""
    assert capsys.readouterr().out == said


def test_letters_come_from_an_installed_font_that_has_them(warned, capsys):
    letter = "\u2a05"  # matplotlib brings it along, in another font than its default
    boxes = picture(letter)
    assert warned
    warned.clear()
    with fonts.drawing(letter):
        drawn = picture(letter)

    assert not warned
    assert drawn != boxes
    assert picture(letter) == boxes  # as before
    assert not capsys.readouterr().out
