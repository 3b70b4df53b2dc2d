import json
import os
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from larq_seresnet.edge.__main__ import main
from larq_seresnet.edge.images import ImageError, fit_image, load_image
from tools.edge.lce_files import Conv, Graph
from tools.edge.packed_files import classifier, packed_conv

KNOWN = {"labels": ["red", "green", "blue"], "dataset": "colors", "input_range": [0, 255]}
METADATA = json.dumps(KNOWN).encode()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(classifier(METADATA))
    return str(path)


@pytest.fixture
def picture(tmp_path):
    """Writes an image of one color and gives its path."""

    def write(name, color, size=(50, 30), mode="RGB", **options):
        path = tmp_path / name
        Image.new(mode, size, color).save(path, **options)
        return str(path)

    return write


def test_classify_prints_the_top_classes(model, picture, capsys):
    paths = [picture("a.png", (250, 20, 10)), picture("b.jpg", (1, 2, 200), (3, 999))]
    assert main(["classify", model, *paths, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{paths[0]}: red 250, green 20"
    assert lines[1].startswith(f"{paths[1]}: blue ")


def test_classify_json(model, picture, capsys):
    path = picture("a.png", (10, 20, 250))
    assert main(["classify", model, path, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["image"] == path
    assert [entry["label"] for entry in result["classes"]] == ["blue", "green", "red"]
    assert [entry["class"] for entry in result["classes"]] == [2, 1, 0]
    assert result["classes"][0]["score"] == 250


def test_classify_without_labels_prints_numbers(tmp_path, picture, capsys):
    path = tmp_path / "plain.tflite"
    path.write_bytes(classifier())
    assert main(["classify", str(path), picture("a.png", (1, 200, 3))]) == 0
    assert ": class 1 200, class 2 3," in capsys.readouterr().out


def test_classify_quantizes_for_an_integer_model(tmp_path, picture, capsys):
    path = tmp_path / "int8.tflite"
    path.write_bytes(classifier(METADATA, integer=True))
    assert main(["classify", str(path), picture("a.png", (1, 200, 3))]) == 0
    assert ": green 200, blue 3, red 1" in capsys.readouterr().out


def test_classify_maps_pixels_to_the_input_range(tmp_path, picture, capsys):
    path = tmp_path / "range.tflite"
    path.write_bytes(classifier(b'{"input_range": [-1, 1]}'))
    assert main(["classify", str(path), picture("a.png", (255, 0, 0))]) == 0
    assert ": class 0 1, class 1 -1, class 2 -1" in capsys.readouterr().out


def test_a_file_that_does_not_tell_its_range_gets_a_warning(tmp_path, picture, capsys):
    path = tmp_path / "unknown.tflite"
    path.write_bytes(classifier(b'{"labels": ["r", "g", "b"]}'))
    assert main(["classify", str(path), picture("a.png", (255, 0, 0))]) == 0
    captured = capsys.readouterr()
    assert ": r 255, g 0, b 0" in captured.out
    assert captured.err.startswith("warning: the file does not tell")
    assert len(captured.err.splitlines()) == 1


def test_a_bad_image_does_not_stop_the_others(model, picture, tmp_path, capsys):
    text = tmp_path / "text.png"
    text.write_text("no image")
    good = picture("a.png", (250, 20, 10))
    whole = picture("whole.png", (250, 20, 10), (500, 500))
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(whole).read_bytes()[:200])
    arguments = ["classify", model, str(text), str(tmp_path / "none.png"), str(cut), good]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{good}: red")
    errors = captured.err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    assert "not a PNG, JPEG, BMP, GIF or WebP image" in errors[0]
    assert errors[1] == f"error: {tmp_path / 'none.png'}: No such file or directory"
    assert "damaged" in errors[2]


def test_what_pillow_trips_over_is_a_damaged_image(model, picture, tmp_path, capsys):
    content = Path(picture("p.png", 0, mode="P")).read_bytes()
    start, end = content.index(b"PLTE") - 4, content.index(b"IDAT") - 4
    (tmp_path / "p.png").write_bytes(content[:start] + content[end:])  # colors without a palette
    good = picture("a.png", (250, 20, 10))
    assert main(["classify", model, str(tmp_path / "p.png"), good]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{good}: red")
    assert captured.err.startswith(f"error: {tmp_path / 'p.png'}: the image is damaged")
    assert captured.err.count("\n") == 1


def test_a_video_among_the_images_is_not_read_as_a_whole(model, picture, tmp_path, capsys):
    video = tmp_path / "video.mp4"
    video.touch()
    os.truncate(video, 1 << 42)
    good = picture("a.png", (250, 20, 10))
    assert main(["classify", model, str(video), good]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{good}: red")
    assert "not a PNG" in captured.err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails")
def test_what_the_system_cannot_read_is_no_damaged_image():
    with pytest.raises(OSError, match="/proc/self/mem"):
        load_image(Path("/proc/self/mem"), 8, 8, 3)


def test_damaged_exif_data_are_no_matter(tmp_path):
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 9)  # nine fields that are not there
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "a.jpg", 8, 8, 3).min() > 250


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_images_of_every_kind(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    path = tmp_path / f"a.{suffix}"
    if mode == "I;16":
        Image.fromarray(np.full((40, 20), 200 * 256, np.uint16)).save(path)
    else:
        Image.new("RGB", (20, 40), (200, 200, 200)).convert(mode).save(path)
    image = load_image(path, 8, 8, 3)
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    if mode not in ("1", "P"):  # those have few colors and are dithered
        assert np.abs(image.astype(int) - 200).max() <= 2
    assert load_image(path, 8, 8, 1).shape == (8, 8, 1)


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    image = Image.new("RGB", (40, 40))
    image.paste((255, 255, 255), (0, 0, 40, 20))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = tmp_path / "a.png"
    image.save(path, exif=exif)
    pixels = load_image(path, 4, 4, 1)
    assert pixels[0].max() == 0
    assert pixels[3].min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_whatever_else_its_camera_says(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    fields = struct.pack("<HHIf", 256, 11, 1, 40.5)  # the width, as the float that it must not be
    fields += struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + fields + bytes(4)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)

    good = Image.Exif()
    good[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=good)
    with Image.open(tmp_path / "b.png") as opened:
        expected = fit_image(ImageOps.exif_transpose(opened), 9, 9, 3)
    assert np.array_equal(load_image(tmp_path / "a.png", 9, 9, 3), expected)


def test_an_image_is_cut_and_not_stretched(tmp_path):
    image = Image.new("RGB", (300, 100))
    image.paste((255, 255, 255), (100, 0, 200, 100))  # the white middle
    path = tmp_path / "a.png"
    image.save(path)
    assert load_image(path, 10, 10, 1)[:, 1:-1].min() == 255


def test_an_image_bomb(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 200)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too large"):
        load_image(path, 8, 8, 3)


def test_benchmark(model, tmp_path, capsys):
    packed = tmp_path / "packed.tflite"
    packed.write_bytes(packed_conv("litert")[0])
    assert main(["benchmark", model, str(packed), "--runs", "5", "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"CPU: .+; kernels of binary layers: (portable|avx2|avx512|neon|none)", lines[0]
    )
    assert lines[1] == "2 thread(s), 5 runs of each model, taking turns"
    assert lines[3].endswith(model)
    assert lines[4].endswith(str(packed))
    assert main(["benchmark", model, "--runs", "5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cpu"]
    (entry,) = report["models"]
    assert 0 < entry["p10_ms"] <= entry["median_ms"] <= entry["p90_ms"]
    assert entry["speedup"] == 1
    assert entry["file_bytes"] == len(classifier(METADATA))


def test_info(model, tmp_path, capsys):
    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    assert "input: float32[1, 4, 4, 3]" in text
    assert "operators: 1 MEAN" in text
    assert 'labels: ["red", "green", "blue"]' in text
    assert "needs the native delegate: no" in text
    path = tmp_path / "packed.tflite"
    path.write_bytes(packed_conv("lce")[0])
    assert main(["info", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["operators"] == {"LceDequantize": 1, "MUL": 1, "CONV_2D": 1}
    assert report["operators_after_unpacking"] == {"CONV_2D": 1}
    assert report["needs_delegate"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "missing.tflite", "a.png"], "error: missing.tflite: No such file or"),
        (["info", __file__], "not a TensorFlow Lite model"),
        (["benchmark", __file__], "not a TensorFlow Lite model"),
        (["classify", "{model}", "{image}", "--top", "0"], "--top must be at least 1"),
        (["benchmark", "{model}", "--runs", "0"], "--runs must be at least 1"),
        (["benchmark", "{model}", "--threads", "0"], "threads must be from 1 to 64"),
        (["classify", "{conv}", "{image}"], "no image classifier"),
        (["classify", "{few}", "{image}"], "2 labels for 3 classes"),
        (["classify", "{map}", "{image}"], "no image classifier: its output has shape"),
        (["classify", "{narrow}", "{image}"], "int8 without a scale, which cannot hold pixels"),
        (["benchmark", "{model}", "{image}"], "a.png: this is not a TensorFlow Lite model"),
    ],
)
def test_errors_are_one_line(arguments, message, model, picture, tmp_path, capsys):
    conv, few = tmp_path / "conv.tflite", tmp_path / "few.tflite"
    conv.write_bytes(Conv().file())
    few.write_bytes(classifier(b'{"labels": ["a", "b"], "input_range": [0, 1]}'))
    names = {"model": model, "image": picture("a.png", 0), "conv": conv, "few": few}
    for name, dtype in (("map", "float32"), ("narrow", "int8")):
        graph = Graph()
        x, y = graph.tensor((1, 4, 4, 3), dtype), graph.tensor((1, 4, 4, 3))
        graph.builtin("CAST", [x], y)
        names[name] = tmp_path / f"{name}.tflite"
        names[name].write_bytes(graph.finish([x], [y]))
    assert main([argument.format(**names) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_the_module_runs(model):
    command = [sys.executable, "-m", "larq_seresnet.edge"]
    result = subprocess.run([*command, "info", model], capture_output=True, text=True)
    assert result.returncode == 0
    assert "MEAN" in result.stdout
    result = subprocess.run([*command, "classify"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written(unbuffered, model):
    line = [sys.executable, "-m", "larq_seresnet.edge", "info", model]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (result.returncode, result.stderr) == (1, "error: No space left on device\n")


def test_a_reader_that_has_seen_enough(model):
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "larq_seresnet.edge", "info", model]
    result = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_info_tells_which_sizes_are_free(tmp_path, capsys):
    path = tmp_path / "model.tflite"
    path.write_bytes(packed_conv("litert", dynamic_batch=True)[0])
    assert main(["info", str(path)]) == 0
    assert "input: float32[-1, 16, 16, 3]" in capsys.readouterr().out


def test_a_model_without_inputs(tmp_path, capsys):
    graph = Graph()
    value = graph.constant(np.ones((1, 3), np.float32))
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.finish([], [value]))
    assert main(["info", str(path)]) == 0
    assert main(["benchmark", str(path), "--runs", "2"]) == 0
    assert main(["classify", str(path), "a.png"]) == 1
    assert "no image classifier" in capsys.readouterr().err
