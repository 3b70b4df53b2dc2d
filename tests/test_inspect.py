import csv
import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import sources
from larq_seresnet.datasets.data import Pixels
from larq_seresnet.files import replacing, write_atomically
from larq_seresnet.inspect import GateStatistics, __main__, gate_statistics, picture
from larq_seresnet.layers import SqueezeExcite
from larq_seresnet.models import SEResNet14Bin
from larq_seresnet.prune import prune


def test_the_statistics_are_shares_of_the_images(images):
    model = SEResNet14Bin(width=4)
    model(images, training=True)

    found = gate_statistics(model, images)

    assert [m.module for m in found] == [f"block{i}_se" for i in range(1, 7)]
    assert [len(m.on) for m in found] == [4, 4, 8, 8, 16, 16]
    x = images
    for layer in model.layers[1:9]:  # to the first module
        x = layer(x)
    gates = model.get_layer("block1_se").gates(x).numpy()[:, 0, 0]
    assert np.allclose(found[0].on, gates.mean(axis=0))


def test_counts():
    module = GateStatistics("se", True, np.array([1, 0, 0.5, 0.25, 0]), channels=6)

    assert (module.always_on, module.always_off, module.dependent) == (1, 2, 2)


def test_a_pruned_network_says_how_many_channels_are_gone(images):
    pruned = prune(SEResNet14Bin(width=4), images, threshold=0.9)

    for module in gate_statistics(pruned, images):
        gone = module.channels - len(module.on)
        assert module.channels in (4, 8, 16)
        assert 0 <= gone < module.channels


def test_without_fmb_a_gate_is_on_where_fmb_would_make_it_1(images):
    model = SEResNet14Bin(width=4, fmb=True)
    soft = SEResNet14Bin(width=4, fmb=False)
    soft.set_weights(model.get_weights())

    first, second = gate_statistics(model, images)[0], gate_statistics(soft, images)[0]

    assert (first.fmb, second.fmb) == (True, False)
    assert np.array_equal(first.on, second.on)


def test_a_network_without_gates(images):
    with pytest.raises(ValueError, match="no squeeze-and-excitation"):
        gate_statistics(SEResNet14Bin(width=4, gate=None, fmb=False), images)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.keras"
    SEResNet14Bin(width=4).save(path)
    return path


def test_the_command_gives_a_table_csv_and_a_picture(saved, tmp_path, capsys):
    arguments = [str(saved), "--dataset", "digits", "--images", "20"]
    out, picture = tmp_path / "gates.csv", tmp_path / "gates.png"

    assert __main__.main([*arguments, "--csv", str(out), "--picture", str(picture)]) == 0

    printed = capsys.readouterr().out
    assert "always on" in printed
    assert "block6_se" in printed
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 2 * (4 + 8 + 16)
    assert all(0 <= float(row["on"]) <= 1 for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")

    assert __main__.main([*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["images"] == {"dataset": "digits", "split": "train", "count": 20}
    assert len(content["networks"]["small.keras"]) == 6


def test_models_of_the_same_name_are_told_apart(saved, tmp_path, capsys):
    other = tmp_path / saved.name
    other.write_bytes(saved.read_bytes())

    arguments = [str(saved), str(other), "--dataset", "digits", "--images", "5", "--json"]
    assert __main__.main(arguments) == 0

    assert list(json.loads(capsys.readouterr().out)["networks"]) == [str(saved), str(other)]


def test_a_name_in_the_picture_is_no_formula():
    module = GateStatistics("se", True, np.array([1, 0.5]), channels=2)

    picture.draw({"costs $^ or $": [module]}).savefig(io.BytesIO(), format="png")


def test_pictures_need_not_be_in_memory(images):
    model = SEResNet14Bin(width=4, blocks=(1,))
    pixels = Pixels(lambda numbers: images[numbers], np.arange(len(images)), images.shape[1:])

    (there,), (read,) = gate_statistics(model, images), gate_statistics(model, pixels)

    assert np.array_equal(there.on, read.on)


def test_json_tells_of_one_set_of_images(images, monkeypatch, capsys):
    model = SEResNet14Bin(width=4, blocks=(1,))
    monkeypatch.setattr(sources, "load_with_images", lambda path, *_: (model, path, images))

    assert __main__.main(["digits", "photos"]) == 0
    assert __main__.main(["digits", "photos", "--json"]) == 1

    assert "photos has other images" in capsys.readouterr().err


def test_a_model_for_images_of_any_size(tmp_path, capsys):
    x = inputs = tf.keras.Input((None, None, 3))
    x = SqueezeExcite(fmb=True, name="attention")(tf.keras.layers.Conv2D(4, 3)(x))
    tf.keras.Model(inputs, x).save(tmp_path / "free.keras")

    arguments = [str(tmp_path / "free.keras"), "--dataset", "digits", "--images", "5"]
    assert __main__.main(arguments) == 0

    assert "attention" in capsys.readouterr().out


def test_a_model_whose_input_has_a_key(tmp_path, capsys):
    image = tf.keras.Input((24, 24, 3))
    x = SqueezeExcite(fmb=True, name="attention")(tf.keras.layers.Conv2D(4, 3)(image))
    tf.keras.Model({"image": image}, x).save(tmp_path / "dict.keras")

    arguments = [str(tmp_path / "dict.keras"), "--dataset", "digits", "--images", "5"]
    assert __main__.main(arguments) == 0

    assert "attention" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": []}', '{"config": {}'])
def test_a_damaged_run_is_one_line(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)

    assert __main__.main([str(tmp_path)]) == 1

    assert "its config.json or results.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["-1", "0", "many"])
def test_a_number_of_images_is_positive(saved, number):
    with pytest.raises(SystemExit):
        __main__.main([str(saved), "--dataset", "digits", "--images", number])


def test_files_are_replaced_whole(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    os.mkfifo(pipe := tmp_path / "pipe")
    with replacing(pipe) as written:
        assert written == pipe
    with pytest.raises(OSError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "file", b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.keras"], "neither a run folder, a saved model nor a pretrained network"),
        ([], "say --dataset"),
        (["--dataset", "no_such_data"], "point TFDS_DATA_DIR"),
        (["--dataset", "digits", "--csv", "no/gates.csv"], "there is no folder no"),
    ],
)
def test_the_users_mistakes_are_one_line(arguments, message, saved, capsys):
    first = [] if arguments and arguments[0].endswith(".keras") else [str(saved)]

    assert __main__.main([*first, *arguments]) == 1

    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
