import errno
import os

import pytest
from matplotlib.figure import Figure

from training.trainer import curves
from training.trainer.run_folder import Row

HEADER = "epoch,train_error,validation_error,test_error"


def write(folder, *rows, header=HEADER):
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text("\n".join([header, *rows, ""]))
    return str(folder)


def log(*errors: float) -> list[Row]:
    return [
        {"epoch": i, "train_error": e - 1, "validation_error": e, "test_error": e + 1}
        for i, e in enumerate(errors, 1)
    ]


def test_one_run_is_drawn_with_its_three_splits():
    (axes,) = curves.draw({"run": log(50, 40, 30)}).axes

    assert [line.get_label() for line in axes.lines] == ["train", "validation", "test"]
    assert axes.lines[2].get_ydata().tolist() == [51, 41, 31]


def test_several_runs_are_drawn_with_their_test_errors():
    (axes,) = curves.draw({"a": log(50, 40), "b": log(60, 30)}).axes

    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["41.0 %", "31.0 %"]


def test_the_command_writes_a_picture(tmp_path):
    runs = [write(tmp_path / name, "1,50,51,52", "2,40,41,42") for name in "ab"]

    curves.main([*runs, "--out", str(tmp_path / "curves.png")])

    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    names = ("a/run", "b/run", "b/other")
    runs = [write(tmp_path / name, f"1,50,51,{i}") for i, name in enumerate(names)]
    drawn = []
    monkeypatch.setattr(curves, "draw", lambda logs: drawn.append(logs) or Figure())

    curves.main([*runs, "--out", str(tmp_path / "curves.svg")])

    errors = {name: log[-1]["test_error"] for name, log in drawn[0].items()}
    assert errors == {runs[0]: 0, runs[1]: 1, "other": 2}


def test_a_full_disk_leaves_the_older_picture(tmp_path, monkeypatch):
    def savefig(figure, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = write(tmp_path / "run", "1,50,51,52")
    picture = tmp_path / "curves.png"
    picture.write_text("older")
    monkeypatch.setattr(Figure, "savefig", savefig)

    with pytest.raises(SystemExit, match=r"curves\.png cannot be written: .*No space left"):
        curves.main([run, "--out", str(picture)])

    assert picture.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "run"]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (HEADER, []),
        (HEADER, ["1,50,51"]),
        (HEADER, ["1,x,51,52"]),
        ("epoch,loss", ["1,2"]),  # of another program
    ],
)
def test_a_damaged_log_is_one_clear_line(header, rows, tmp_path):
    run = write(tmp_path / "run", *rows, header=header)

    with pytest.raises(SystemExit, match=r"^training\.curves: error: .*run.*log"):
        curves.main([run, "--out", str(tmp_path / "curves.png")])

    assert not (tmp_path / "curves.png").exists()
