import pytest

from training.trainer import curves
from training.trainer.run_folder import Row

HEADER = "epoch,train_error,validation_error,test_error"


def write(folder, *rows):
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join([HEADER, *rows, ""]))
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


@pytest.mark.parametrize("rows", [[], ["1,50,51"], ["1,x,51,52"]])
def test_a_damaged_log_is_one_clear_line(rows, tmp_path):
    run = write(tmp_path / "run", *rows)

    with pytest.raises(SystemExit, match=r"^training\.curves: error: .*run.*log"):
        curves.main([run, "--out", str(tmp_path / "curves.png")])

    assert not (tmp_path / "curves.png").exists()
