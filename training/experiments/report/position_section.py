"""The report's section on where networks look."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.image import imread

from training.experiments.report import statistics
from training.experiments.report.figures import Figure
from training.experiments.report.records import read_csv
from training.experiments.report.tables import Table, summary

LEARNED = 50.0  # percent of test error, above which a network says nothing about where to look

_WHAT = {
    "pasted_digits": "handwritten digits",
    "pasted_svhn": "digits of house numbers (SVHN subset)",
}
_SCORES = {"pointing": "pointing game (%)", "energy": "energy in the box (%)"}


def tables(results: Path) -> list[Table]:
    """What `python -m training.position` and `training.shift` measured."""
    found = [_scores(read_csv(file)) for file in sorted(results.glob("position/pasted_*.csv"))]
    shifts = [read_csv(file) for file in sorted(results.glob("position/shift_*.csv"))]
    return [*found, *(_shifts(rows) for rows in shifts if rows)]


def _scores(rows: list[dict[str, str]]) -> Table:
    cells = []
    for gate in dict.fromkeys(row["gate"] for row in rows):
        mine = [float(row["test_error"]) for row in rows if row["gate"] == gate]
        learned = max(mine) < LEARNED
        for key, title in (*_SCORES.items(), ("test_error", "test error (%)")):
            sides = [
                [float(row[key]) for row in rows if row["gate"] == gate and row["fmb"] == fmb]
                for fmb in "01"
            ]
            line = [gate, title, *map(summary, sides), "-", "-"]
            if all(sides):
                line[-2:] = _effect(statistics.difference(sides[1], sides[0]))
            if not learned and key != "test_error":
                line[-1] = "no verdict: did not learn"
            cells.append(line)
    first = rows[0]
    note = (
        f"EigenCAM of {first['layer']} on {first['images']} test images: {_WHAT[first['dataset']]} "
        "pasted at random places on textured backgrounds. Pointing game: the hottest pixel is in "
        "the digit's box; energy: the share of the positive heat that is. A random pixel, and heat "
        f"that is everywhere, score {float(first['chance']):.1f} %, the image's middle "
        f"{float(first['centre_pointing']):.1f} %. A gate of which a run ends with more than "
        f"{LEARNED:.0f} % test error has no verdict. Mean ± standard deviation over the seeds; the "
        "interval is Welch's."
    )
    columns = ["gate", "", "without FMB", "with FMB", "with minus without, 95 %", "FMB"]
    title = f"Where networks look: {_WHAT[first['dataset']]} at known places"
    return Table(title, columns, cells, note)


def _effect(effect: statistics.Difference) -> tuple[str, str]:
    if effect.low is None or effect.high is None:
        return f"{effect.value:+.2f}", "undecided"
    verdict = "no difference shown"
    if effect.low > 0 or effect.high < 0:
        verdict = "raises it" if effect.low > 0 else "lowers it"
    return f"{effect.value:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]", verdict


def _shifts(rows: list[dict[str, str]]) -> Table:
    cells = [
        [
            f"{row['first']} ({_fmb(row['first_fmb'])})",
            f"{row['second']} ({_fmb(row['second_fmb'])})",
            *(f"{float(row[key]):.2f}" for key in ("shift", "median", "shuffled")),
        ]
        for row in rows
    ]
    note = (
        f"Distance between the centres of the two networks' heat maps ({rows[0]['layer']}) on the "
        f"same {rows[0]['images']} test images. Different images: the same between heat maps of "
        "images that have nothing to do with each other. Two runs that differ in their seed alone "
        "shift too: only against such pairs does a shift say something about FMB."
    )
    columns = ["first", "second", "mean shift (pixels)", "median", "different images"]
    return Table(f"How far heat maps shift: {rows[0]['dataset']}", columns, cells, note)


def _fmb(flag: str) -> str:
    return "FMB" if flag == "1" else "no FMB"


def figures(results: Path) -> list[Figure]:
    """Heat maps on test images, as `python -m training.position` drew them."""
    return [_picture(file) for file in sorted(results.glob("position/pasted_*.png"))]


def _picture(file: Path) -> Figure:
    pixels = imread(file)
    figure = plt.figure(figsize=(pixels.shape[1] / 120, pixels.shape[0] / 120), dpi=120)
    figure.figimage(pixels)
    plt.close(figure)
    caption = (
        f"EigenCAM of {_WHAT[file.stem]} pasted on textures, with their boxes: the first seed of "
        "each."
    )
    return Figure(f"eigencam_{file.stem}", caption, figure)
