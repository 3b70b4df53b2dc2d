from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import ROOT
from training.experiments import robustness

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
SMOOTH = np.uint8(np.linspace(40, 200, 32 * 32 * 3).reshape(1, 32, 32, 3))


def test_clean_images_stay_as_they_are():
    np.testing.assert_array_equal(robustness.corrupted(IMAGES, "clean"), IMAGES)


@pytest.mark.parametrize("name", list(robustness.CORRUPTIONS)[1:])
def test_a_corruption_changes_pixels_and_nothing_else(name):
    changed = robustness.corrupted(IMAGES, name)
    assert changed.dtype == np.uint8
    assert changed.shape == IMAGES.shape
    assert (changed != IMAGES).any()
    np.testing.assert_array_equal(changed, robustness.corrupted(IMAGES, name))


def test_noise_has_the_published_strength():
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    values = robustness.corrupted(grey, "Gaussian noise") / 255
    assert values.std() == pytest.approx(0.08, rel=0.02)
    shots = robustness.corrupted(grey, "shot noise") / 255
    assert shots.std() == pytest.approx(np.sqrt(128 / 255 / 100), rel=0.02)


def test_brightness_contrast_and_blur():
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    assert (robustness.corrupted(grey, "brightness") == 138).all()  # 100 + 0.15 * 255
    low = robustness.corrupted(SMOOTH, "contrast").astype(float)
    assert np.ptp(low) == pytest.approx(0.4 * np.ptp(SMOOTH), abs=2)
    assert low.mean() == pytest.approx(SMOOTH.mean(), abs=1)
    assert robustness.corrupted(IMAGES, "Gaussian blur").std() < 0.7 * IMAGES.std()


def test_calibration_error():
    sure = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 8 + [1] * 2)
    assert robustness.calibration_error(sure, labels) == pytest.approx(0, abs=1e-9)
    assert robustness.calibration_error(sure, 1 - labels) == pytest.approx(60)
    assert robustness.calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(100)


def test_a_page_and_a_picture_come_out(tmp_path, monkeypatch):
    source = robustness.data.load("digits")
    monkeypatch.setattr(robustness.data, "load", lambda *_: source)
    monkeypatch.setattr(robustness, "CORRUPTIONS", dict(list(robustness.CORRUPTIONS.items())[:2]))
    robustness.main(
        ["--folder", str(ROOT / "tflite_models"), "--images", "20", "--out", str(tmp_path)]
    )
    text = (tmp_path / "README.md").read_text()
    assert "| clean |" in text
    assert "20 test images" in text
    assert (tmp_path / "examples.png").stat().st_size > 5000
    lines = (tmp_path / "robustness.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(robustness.FILES)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SystemExit, match=r"nothing\.tflite"):
        robustness.main(["--files", "nothing", "--dataset", "digits", "--out", str(tmp_path)])


def test_files_of_other_classes_are_refused(tmp_path, monkeypatch):
    digits = robustness.data.load("digits")
    two = replace(digits, source=replace(digits.source, labels=("even", "odd")))
    monkeypatch.setattr(robustness.data, "load", lambda *_: two)
    folders = ["--folder", str(ROOT / "tflite_models"), "--out", str(tmp_path / "out")]

    with pytest.raises(SystemExit, match="cifar10_litert does not tell 2 classes apart"):
        robustness.main(["--images", "5", *folders])

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["0", "-5"])
def test_a_number_of_images_is_positive(number, capsys):
    with pytest.raises(SystemExit):
        robustness.main(["--images", number])
    assert "--images must be at least 1" in capsys.readouterr().err
