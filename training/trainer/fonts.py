"""Fonts for names in any script: matplotlib's own has no Chinese, for instance."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font


@contextmanager
def drawing(text: str) -> Iterator[None]:
    """Draw with an installed font that has the letters which matplotlib's own lacks, or say so."""
    own = _letters(findfont(FontProperties()))
    lacking = {ord(letter) for letter in text if letter.isprintable()} - own
    families = list(matplotlib.rcParams["font.family"])
    if lacking:
        listed = [x for x in fontManager.ttflist if not x.name.startswith("Last Resort")]
        fonts = [font for font in listed if _letters(font.fname)]
        best = max(fonts, key=lambda font: len(lacking & _letters(font.fname)))
        missing = "".join(map(chr, sorted(lacking - _letters(best.fname))[:10]))
        families.append(best.name)
        if missing:
            print(f"no installed font has {missing}: pictures show boxes instead", flush=True)
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        yield


def _letters(file: str) -> set[int]:
    try:
        return set(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # it is damaged, or was uninstalled since it was listed
        return set()
