import numpy as np
import pytest

from tests.experiments import fake_training
from training import UserError
from training.experiments import plan, position, shift
from training.experiments.position import PositionConfig
from training.experiments.records import read_csv
from training.trainer import data, fit, pasted


def heatmap(row, column):
    """One hot pixel; everything else is cold."""
    map_ = np.full((1, 32, 32), -1.0, np.float32)
    map_[0, row, column] = 5
    return map_


BOX = np.array([[4, 8, 18, 22]])


@pytest.mark.parametrize(
    ("row", "column", "inside"), [(4, 8, 1), (17, 21, 1), (18, 21, 0), (3, 8, 0), (10, 22, 0)]
)
def test_a_hot_pixel_is_inside_the_box_or_not(row, column, inside):
    pointing, energy = position.score(heatmap(row, column), BOX)

    assert pointing.tolist() == [bool(inside)]
    assert energy.tolist() == [inside]


def test_energy_is_the_share_of_the_positive_heat():
    map_ = heatmap(10, 10)
    map_[0, 30, 30] = 15

    pointing, energy = position.score(map_, BOX)

    assert pointing.tolist() == [False]
    assert energy.tolist() == [0.25]
    assert position.score(np.zeros((1, 32, 32)), BOX)[1].tolist() == [0]


def test_heat_that_is_everywhere_scores_chance():
    boxes = data.load("pasted_digits").test_boxes
    _, energy = position.score(np.ones((len(boxes), 32, 32)), boxes)

    baselines = position.baselines(boxes, pasted.CANVASES["pasted_digits"])
    assert 100 * energy.mean() == pytest.approx(baselines["chance"], abs=0.01)


def test_the_digit_is_in_its_box():
    dataset = data.load("pasted_digits")
    images, labels = dataset.test
    boxes = dataset.test_boxes
    digit = pasted.CANVASES["pasted_digits"].pasted

    assert images.shape == (360, 32, 32, 3)
    assert images.dtype == np.uint8
    assert len(dataset.train[1]) == 2 * 1293
    assert np.array_equal(labels, data.load("digits").test[1])
    for image, (top, left, bottom, right) in zip(images, boxes, strict=True):
        inside = np.zeros((32, 32), bool)
        inside[top:bottom, left:right] = True
        assert inside.sum() == digit**2
        brightness = image.mean(axis=-1)
        assert brightness[inside].max() > brightness[~inside].max()
    assert len(np.unique(boxes, axis=0)) > 100
    again, _ = data.load("pasted_digits").test
    assert np.array_equal(images, again)


def test_the_statistics_of_the_pasted_digits():
    dataset = data.load("pasted_digits")
    pixels = dataset.train[0].reshape(-1, 3).astype(float)

    assert np.allclose(pixels.mean(axis=0), dataset.source.mean, rtol=0.02)
    assert np.allclose(pixels.var(axis=0), dataset.source.variance, rtol=0.02)


def test_what_is_pasted_of_svhn_is_in_its_box():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    split = (numbers, rng.integers(0, 10, 20))

    splits, boxes = pasted.paste_svhn({"train": split, "test": split})

    images, labels = splits["test"]
    assert images.shape == (20, 48, 48, 3)
    assert np.array_equal(labels, split[1])
    for number, image, (top, left, bottom, right) in zip(numbers, images, boxes, strict=True):
        shrunken = number.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(image[top:bottom, left:right] - shrunken).max() <= 0.5
    assert not np.array_equal(images, splits["train"][0])


def test_the_statistics_of_the_pasted_house_numbers(tfds_dir):
    dataset = data.load("pasted_svhn", tfds_dir)
    pixels = dataset.train[0].reshape(-1, 3).astype(float)

    assert np.allclose(pixels.mean(axis=0), dataset.source.mean, rtol=0.02)
    assert np.allclose(pixels.var(axis=0), dataset.source.variance, rtol=0.02)


def test_the_centre_of_a_heat_map():
    assert shift.centres(heatmap(3, 20)).tolist() == [[3.5, 20.5]]
    both = np.maximum(heatmap(0, 0), heatmap(10, 4))
    assert shift.centres(both).tolist() == [[5.5, 2.5]]


def test_shifts_between_runs():
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 32, (200, 2))
    moved = first + np.array([3, 4])

    (row,) = shift.shifts({"a": first, "b": moved}).itertuples()

    assert (row.first, row.second, row.images) == ("a", "b", 200)
    assert row.shift == row.median == 5
    assert row.shuffled > 10


def test_runs_that_cannot_be_compared(tmp_path):
    with pytest.raises(UserError, match="is no finished run"):
        shift.measure([tmp_path], 10)

    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    for run, dataset in zip(runs, ("digits", "digits", "cifar10"), strict=True):
        run.mkdir(parents=True)
        (run / "results.json").touch()
        (run / "config.json").write_text(f'{{"config": {{"dataset": "{dataset}"}}}}')
    for unfit in (runs[:1], runs[:2], runs[1:]):
        with pytest.raises(UserError, match="two runs of one data set, which have different names"):
            shift.measure(unfit, 10)


@pytest.mark.parametrize("number", ["0", "-5", "all"])
def test_a_number_of_images_is_positive(number, tmp_path, capsys):
    with pytest.raises(SystemExit):
        shift.main([str(tmp_path), "--images", number])
    assert "no positive number" in capsys.readouterr().err


def test_the_table_of_own_pictures_is_called_as_their_folder(tmp_path, monkeypatch):
    digits = data.load("digits")
    monkeypatch.setattr(shift.data, "load", lambda _: digits)
    monkeypatch.setattr(shift, "heat", lambda run, images, layer: np.ones(images.shape[:3]))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").touch()
        (tmp_path / name / "config.json").write_text(
            '{"config": {"dataset": "my/photos/", "fmb": false}}'
        )

    runs = [str(tmp_path / name) for name in "ab"]
    shift.main([*runs, "--images", "5", "--results", str(tmp_path)])

    (row,) = read_csv(tmp_path / "shift_photos.csv").itertuples()
    assert (row.dataset, row.images) == ("photos", 5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--width", "0"], "width must be a positive integer, not 0"),
        (["--learning-rate", "nan"], "--learning-rate must be positive, not nan"),
    ],
)
def test_bad_flags(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        position.main(flags)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_run_of_more_epochs_is_another_one(tmp_path):
    """Its rate has risen and fallen more slowly."""
    step, *_ = PositionConfig(runs=tmp_path).steps()
    shorter, *_ = PositionConfig(runs=tmp_path, epochs=10).steps()
    fake_training.train(step)

    assert plan.finished(step.folder, step)
    with pytest.raises(UserError, match="holds a run with --epochs 25, not 10"):
        plan.finished(shorter.folder, shorter)


def test_a_damaged_network_is_one_clear_line(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"dataset": "digits"}}')
    (tmp_path / "model.keras").write_text("no network")

    with pytest.raises(UserError, match=r"model\.keras is no readable model"):
        position.heat(tmp_path, np.zeros((1, 32, 32, 3), np.uint8), "block6_relu2")


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    flags = ["--gates", "sigmoid", "--seeds", "1", "--epochs", "1", "--width", "2"]
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    position.main([*flags, *folders])
    monkeypatch.setattr(fit, "fit", None)  # the second time, everything is there
    position.main([*flags, *folders])

    rows = read_csv(tmp_path / "results" / "pasted_digits.csv")
    assert list(zip(rows.gate, rows.fmb, strict=True)) == [("sigmoid", 0), ("sigmoid", 1)]
    assert rows.pointing.between(0, 100).all()
    assert (tmp_path / "results" / "pasted_digits.png").exists()
    config = PositionConfig(gates=("sigmoid",), seeds=1, runs=tmp_path / "runs")
    names = [step.folder.name for step in config.steps()]
    shift.main([*(str(tmp_path / "runs" / name) for name in names), "--results", str(tmp_path)])
    (row,) = read_csv(tmp_path / "shift_pasted_digits.csv").itertuples()
    assert (row.dataset, row.images, row.first_fmb, row.second_fmb) == ("pasted_digits", 360, 0, 1)
    assert row.shift >= 0
