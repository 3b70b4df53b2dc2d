"""Data sets of the user's own pictures: folders, CSV files, and others of `tensorflow_datasets`."""

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from larq_seresnet import datasets
from larq_seresnet.datasets import listing, own, store
from larq_seresnet.edge.images import load_image
from larq_seresnet.errors import UserError
from tests.pictures import KINDS, save, write_folder

RANDOM = np.random.default_rng(0)


def draw(count):
    """Pictures that differ from each other."""
    return RANDOM.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two classes of 60 pictures, of all formats."""
    root = tmp_path_factory.mktemp("own") / "photos"
    write_folder(root, draw(120), ["cat", "a dog"] * 60)
    return root


@pytest.fixture
def photos(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "photos"))


@pytest.fixture
def load(tmp_path):
    def run(place, **options):
        return datasets.load(str(place), cache_dir=tmp_path / "cache", **options)

    return run


def sizes(data):
    return [len(labels) for _, labels in (data.train, data.validation, data.test)]


def splits(place):
    return {e.name: e.split for e in listing.Listing(place).examples(0, (8, 8, 3))}


def test_a_folder_for_each_class(photos, load):
    data = load(photos, size=(20, 24))

    assert data.source.labels == ("a dog", "cat")
    assert data.source.shape == (20, 24, 3)
    assert sum(sizes(data)) == 120
    assert all(count > 4 for count in sizes(data))
    images, labels = data.train
    assert images.shape == (len(labels), 20, 24, 3)
    pixels = images[:].reshape(-1, 3).astype(float)
    np.testing.assert_allclose(data.source.mean, pixels.mean(axis=0), atol=0.06)
    np.testing.assert_allclose(data.source.variance, pixels.var(axis=0), atol=0.6)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("grey", [True, False])
def test_training_sees_what_the_device_sees(photos, load, cache, grey):
    data = load(photos, size=(30, 20), grey=grey, cache=cache)

    shape = (30, 20, 1 if grey else 3)
    images, labels = data.test
    seen = set()
    for name, image, label in zip(data.test_names, images[:], labels, strict=True):
        assert np.array_equal(image, load_image(photos / name, *shape))
        assert name.startswith(data.source.labels[label])
        seen.add(Path(name).suffix)
    again = datasets.read(str(photos), "test", shape=shape)
    assert np.array_equal(again[0], images[:])
    assert np.array_equal(again[1], labels)
    assert len(seen) > len(KINDS) / 2


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("Train", "val", "TEST")])
def test_splits_of_their_own(tmp_path, load, names):
    for split, count in zip(names, (8, 4, 6), strict=True):
        write_folder(tmp_path / "own", draw(count), ["x", "y"] * (count // 2), split=split)

    assert sizes(load(tmp_path / "own")) == [8, 4, 6]


def test_what_lies_beside_splits_is_no_class(tmp_path, load, caplog):
    for split, count in (("train", 40), ("test", 6), ("unlabelled", 4)):
        write_folder(tmp_path / "own", draw(count), ["x", "y"] * (count // 2), split=split)
    (tmp_path / "own" / "__MACOSX").mkdir()

    data = load(tmp_path / "own")
    assert data.source.labels == ("x", "y")
    assert sizes(data)[2] == 6
    assert "unlabelled (it is none of train, validation, test)" in caplog.text


def test_what_has_no_test_split_gets_one(tmp_path, load):
    write_folder(tmp_path / "own", draw(100), ["x", "y"] * 50, split="train")
    write_folder(tmp_path / "own", draw(10), ["x", "y"] * 5, split="val")

    train, validation, test = sizes(load(tmp_path / "own"))
    assert (train + test, validation) == (100, 10)
    assert 3 < test < 20


def test_test_pictures_without_classes_are_skipped(tmp_path, load):
    write_folder(tmp_path / "own", draw(100), ["x", "y"] * 50, split="train")
    (tmp_path / "own" / "test").mkdir()
    save(tmp_path / "own" / "test" / "1.png", draw(1)[0])

    data = load(tmp_path / "own")
    assert data.source.labels == ("x", "y")
    assert sum(sizes(data)) == 100
    assert data.skipped == (("test/1.png", "it lies in no class's folder"),)


def test_classes_may_be_called_train_and_test(tmp_path, load):
    write_folder(tmp_path / "own", draw(120), ["train", "test", "plane"] * 40)

    assert load(tmp_path / "own").source.labels == ("plane", "test", "train")


def test_numbers_are_in_their_order(tmp_path, load):
    write_folder(tmp_path / "own", draw(150), ["2", "10", "1"] * 50)

    assert load(tmp_path / "own").source.labels == ("1", "2", "10")


def test_pictures_that_are_added_move_no_others(photos):
    before = splits(photos)
    for number, image in enumerate(draw(40)):
        save(photos / "cat" / f"new{number}.png", image)
    after = splits(photos)

    assert len(after) == len(before) + 40
    assert {name: after[name] for name in before} == before
    shutil.move(photos, photos.with_name("elsewhere"))
    assert splits(photos.with_name("elsewhere")) == after


def test_a_tenth_is_drawn_for_each_split():
    counts = Counter(listing.draw_split(f"{i}", ["validation", "test"]) for i in range(10000))

    assert abs(counts["validation"] - 1000) < 100
    assert abs(counts["test"] - 1000) < 100


def write_csv(file, rows, *, columns=("path", "label"), encoding="utf-8"):
    with file.open("w", newline="", encoding=encoding) as lines:
        csv.writer(lines).writerows([columns, *rows])
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file(photos, load, encoding):
    paths = sorted(path.relative_to(photos) for path in photos.rglob("*.*"))
    rows = [(path.as_posix(), "1" if "cat" in str(path) else "zürich\nsee") for path in paths]
    file = write_csv(photos / "labels.csv", rows, encoding=encoding)

    data = load(file)
    assert data.source.labels == ("1", "zürich\nsee")
    assert sum(sizes(data)) == 120
    absolute = [(photos / path, label) for path, label in rows]
    assert sum(sizes(load(write_csv(photos / "absolute.csv", absolute)))) == 120


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_file_of_a_spreadsheet(photos, load, delimiter):
    paths = sorted(photos.rglob("*.*"))
    rows = [["Label", "Path "], *([x.parent.name, f'"{x}"'] for x in paths), ["", ""]]
    file = photos / "labels.csv"
    file.write_text("\r\n".join(map(delimiter.join, rows)), encoding="utf-8-sig", newline="")

    assert sum(sizes(load(file))) == len(paths)


def test_a_csv_file_with_splits(photos, load):
    paths = sorted(photos.rglob("*.*"))
    kinds = ["train"] * 80 + ["val"] * 20 + ["test"] * 20
    rows = [(path, path.parent.name, split) for path, split in zip(paths, kinds, strict=True)]
    RANDOM.shuffle(rows)
    columns = ("path", "label", "split")
    rows[0] = (rows[0][0], rows[0][1], "")

    file = write_csv(photos / "labels.csv", rows, columns=columns)
    counted = Counter(splits(file).values())
    assert counted["validation"] in (19, 20)
    assert sum(counted.values()) == 120


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (("file", "label"), ("a.png", "x"), "no column path"),
        (("path",), ("a.png",), "no column label"),
        (("path", "label"), ("a.png", ""), "line 2: it needs a path and a label"),
        (("path", "label"), ("a.png",), "line 2: it needs a path and a label"),
        (("path", "label", "split"), ("a.png", "x", "later"), "split must be one of"),
        (("path", "label"), ("a.png", "x"), "has no pictures: a.png: No such file"),
        ((), (), "no column"),
    ],
)
def test_a_csv_file_that_is_wrong(tmp_path, load, columns, row, message):
    file = write_csv(tmp_path / "labels.csv", [row], columns=columns)
    with pytest.raises(UserError, match=message):
        load(file)
    assert not (tmp_path / "cache").exists()


def test_a_csv_file_with_a_path_twice_or_of_no_text(tmp_path, load):
    file = write_csv(tmp_path / "labels.csv", [("a.png", "x"), ("a.png", "y")])
    with pytest.raises(UserError, match=r"line 3: a.png is there twice"):
        load(file)
    file.write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(UserError, match="no text in UTF-8"):
        load(file)


def test_places_that_cannot_be_used(tmp_path, load):
    with pytest.raises(UserError, match="there is no folder or file"):
        load(tmp_path / "nowhere")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UserError, match="no folder of pictures and no CSV file"):
        load(tmp_path / "file.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no pictures"):
        load(tmp_path / "empty")
    save(tmp_path / "flat" / "a.png", draw(1)[0])
    with pytest.raises(UserError, match=r"no pictures: a\.png: it lies in no class's folder"):
        load(tmp_path / "flat")
    write_folder(tmp_path / "one", draw(20), ["x"] * 20)
    with pytest.raises(UserError, match="has one class, x"):
        load(tmp_path / "one")


def test_a_class_without_a_file_is_named(photos, load, caplog):
    (photos / "bird").mkdir()

    data = load(photos)
    assert data.source.labels == ("a dog", "cat")
    assert data.skipped == (("bird", "it holds no file"),)
    assert "skipped (1): bird (it holds no file)" in caplog.text


def test_a_class_with_one_picture(photos, load):
    save(photos / "bird" / "a.png", draw(1)[0])
    with pytest.raises(UserError, match=r"class bird has 1 picture that .*: add some, or remove"):
        load(photos)


def test_too_few_pictures_to_draw_from(tmp_path, load, monkeypatch):
    write_folder(tmp_path / "own", draw(6), ["x", "y"] * 3)
    monkeypatch.setattr(listing, "draw_split", lambda name, splits: "train")
    with pytest.raises(UserError, match="too few pictures to draw a validation split from"):
        load(tmp_path / "own")


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no picture"),
    "broken link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_picture_that_cannot_be_read_is_skipped_and_named(photos, load, damage, caplog):
    path = photos / "cat" / "0 \N{LATIN SMALL LETTER U WITH DIAERESIS}\n\x1b[2J.png"
    save(path, RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    DAMAGES[damage](path)

    data = load(photos)
    assert sum(sizes(data)) == 120
    ((name, reason),) = data.skipped
    assert name == f"cat/{path.name}"
    assert reason
    assert "skipped (1): cat/0 ü\\n\\x1b[2J.png (" in caplog.text
    with pytest.raises(UserError, match="--strict: cat/0"):
        load(photos, strict=True)


def test_no_permission(photos, load, monkeypatch):
    closed = next((photos / "cat").iterdir())
    opens, entries = Path.open, Path.iterdir

    def opened(path, *mode, **options):
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *mode, **options)

    def iterdir(path):
        if path.name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return entries(path)

    (photos / "cat" / "private").mkdir()
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert set(load(photos).skipped) == {
        ("cat/private", "Permission denied"),
        (f"cat/{closed.name}", "Permission denied"),
    }
    (photos / "private").mkdir()
    shutil.move(photos / "private", photos.with_name("private"))
    with pytest.raises(UserError, match="Permission denied"):
        load(photos.with_name("private"))


def test_links_are_followed_but_not_in_a_circle(photos, load):
    (photos / "cat" / "circle").symlink_to(photos)
    shutil.move(photos / "a dog", photos.with_name("dogs"))
    (photos / "dog").symlink_to(photos.with_name("dogs"))

    data = load(photos)
    assert sum(sizes(data)) == 120
    assert data.source.labels == ("cat", "dog")
    assert data.skipped == (("cat/circle", "the link leads in a circle"),)


def test_names_of_any_bytes(photos, load):
    folder = os.fsencode(photos) + b"/\xff\xfe"
    Path(os.fsdecode(folder)).mkdir()
    for path in sorted((photos / "cat").iterdir())[:30]:
        shutil.move(path, os.path.join(os.fsdecode(folder), path.name))  # noqa: PTH118
    data = load(photos)
    assert len(data.source.labels) == 3
    "".join(data.source.labels).encode()  # can be written to files


def test_equal_pictures_in_two_splits_are_reported(photos, load, caplog):
    names = splits(photos)
    test = next(name for name, split in names.items() if split == "test")
    copies = (f"cat/copy{i}.png" for i in range(100))
    copy = next(n for n in copies if listing.draw_split(n, ["validation", "test"]) == "train")
    shutil.copy(photos / test, photos / copy)

    load(photos)
    assert "equal pictures in two splits, which makes errors look smaller (1)" in caplog.text
    assert f"{test} = {copy}" in caplog.text or f"{copy} = {test}" in caplog.text


def test_pictures_are_decoded_once(photos, load, monkeypatch):
    first = load(photos)
    monkeypatch.setattr(listing, "load_image", None)
    second = load(photos)

    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.train[0][:], first.train[0][:])


def test_a_folder_that_changes_is_decoded_anew(photos, load):
    first = load(photos)
    before = first.train[0][:]
    for path in (photos / "cat").iterdir():
        save(path.with_suffix(".png"), draw(1)[0])
    second = load(photos)

    assert second.fingerprint != first.fingerprint
    assert np.array_equal(first.train[0][:], before)  # who reads it still has its own
    assert not np.array_equal(second.train[0][: len(before)], before)


@pytest.mark.parametrize("cut", ["between", "line", "pixels"])
def test_decoding_goes_on_where_it_was_cut_off(photos, load, monkeypatch, tmp_path, cut):
    whole = datasets.load(str(photos), cache_dir=tmp_path / "whole")
    monkeypatch.setattr(store, "_BATCH", 25)
    decode, seen = listing.load_image, []

    def interrupted(path, *shape):
        seen.append(path)
        if len(seen) == 60:
            raise KeyboardInterrupt
        return decode(path, *shape)

    monkeypatch.setattr(listing, "load_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(photos)
    (folder,) = (tmp_path / "cache").iterdir()
    if cut == "line":
        index = folder / "index.jsonl"
        index.write_text(index.read_text()[:-100])
    if cut == "pixels":
        with (folder / "pixels").open("ab") as file:
            file.write(b"more")
    seen.clear()
    seen.extend(range(100))
    again = load(photos)

    assert len(seen) - 100 == {"between": 70, "line": 95, "pixels": 70}[cut]
    assert again.source == whole.source
    for ours, theirs in zip(
        (again.train, again.validation, again.test),
        (whole.train, whole.validation, whole.test),
        strict=True,
    ):
        assert np.array_equal(ours[0][:], theirs[0][:])
        assert np.array_equal(ours[1], theirs[1])


def test_a_cache_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*: say --cache-dir, or --no-cache"):
        datasets.load(str(photos), cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"say --cache-dir$"):  # what was skipped lies there too
        datasets.load(str(photos), cache_dir=tmp_path / "file" / "cache", cache=False)


def test_pictures_that_vanish_are_named(photos, load):
    data = load(photos, cache=False)
    shutil.rmtree(photos / "cat")
    with pytest.raises(UserError, match=r"cat/.* cannot be read any more"):
        data.train[0][:]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Data sets of `tensorflow_datasets`: grey images of 10 by 12 pixels, and text.

    Of "partly" the last ten images have no label.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    images = RANDOM.integers(0, 256, (90, 10, 12, 1), dtype=np.uint8)
    kinds = np.arange(90) % 2
    features = {
        "image": tfds.features.Image(shape=(10, 12, 1)),
        "kind": tfds.features.ClassLabel(names=["even", "odd"]),
    }
    write = tfds.dataset_builders.store_as_tfds_dataset
    for name, labels in (("tiny", kinds), ("partly", np.where(np.arange(90) < 80, kinds, -1))):
        labelled = {
            split: tf.data.Dataset.from_tensor_slices({"image": images[part], "kind": labels[part]})
            for split, part in (("train", slice(70)), ("validation", slice(70, 90)))
        }
        write(
            name,
            version="1.2.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets=labelled,
            data_dir=folder,
        )
    text = tf.data.Dataset.from_tensor_slices({"text": ["a", "b"], "kind": [0, 1]})
    features = {"text": tfds.features.Text(), "kind": features["kind"]}
    write(
        "words",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": text},
        data_dir=folder,
    )
    return folder


@pytest.mark.parametrize("name", ["tiny", "tiny:1.*.*"])
def test_a_data_set_of_a_catalogue(catalogue, load, name):
    data = load(name, data_dir=catalogue)

    assert data.source.labels == ("even", "odd")
    assert data.source.shape == (10, 12, 1)
    train, validation, test = sizes(data)
    assert (train + test, validation) == (70, 20)
    assert test > 1
    images, labels = datasets.read(name, "validation", data_dir=catalogue)
    assert np.array_equal(images, data.validation[0][:])
    assert np.array_equal(labels, data.validation[1])
    assert load(name, data_dir=catalogue, size=(20, 20)).source.shape == (20, 20, 1)


def test_what_has_no_label_is_skipped(catalogue, load):
    data = load("partly", data_dir=catalogue)

    assert [reason for _, reason in data.skipped] == ["it has no label"] * 10
    assert np.bincount(data.validation[1]).tolist() == [5, 5]
    _, labels = datasets.read("partly", "validation", data_dir=catalogue)
    assert np.array_equal(labels, data.validation[1])


def test_a_data_set_that_does_not_fit(catalogue, load, tmp_path):
    with pytest.raises(UserError, match="words has no image, only: "):
        load("words", data_dir=catalogue)
    with pytest.raises(UserError, match=r"nonsense is no folder, .*: prepare it"):
        load("nonsense", data_dir=catalogue)
    with pytest.raises(UserError, match="--no-cache needs pictures in files"):
        load("tiny", data_dir=catalogue, cache=False)


def test_a_folder_has_nothing_to_do_with_catalogues(photos, load, monkeypatch):
    """Whose advice for data that cannot be read is to delete them."""
    monkeypatch.setattr(datasets.catalogue, "reported", None)
    monkeypatch.setattr(own, "_check", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load(photos)
    datasets.read(str(photos), "test")


def test_damaged_files_of_a_catalogue(catalogue, load, tmp_path):
    shutil.copytree(catalogue, tmp_path / "tfds")
    records = next((tmp_path / "tfds" / "tiny").rglob("*train.tfrecord*"))
    records.write_bytes(bytes(records.stat().st_size))
    with pytest.raises(UserError, match=r"data set tiny in .* cannot be read"):
        load("tiny", data_dir=tmp_path / "tfds")


def test_known_data_sets_of_another_shape():
    data = datasets.load("digits", size=(40, 48), grey=True)

    assert data.source.shape == data.train[0].shape[1:] == (40, 48, 1)
    assert data.source.mean == pytest.approx([data.train[0].mean()])


def test_a_name_stands_for_one_thing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "photos").mkdir()
    assert own.place_of("cifar10") is None
    assert own.place_of("mnist:3.*.*") is None
    assert own.place_of("photos") == own.place_of("photos/") == Path("photos")
