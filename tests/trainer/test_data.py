import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.datasets import catalogue
from training import UserError
from training.trainer import data
from training.trainer.augmentation import Augmentation


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def images_of(split):
    return {image.tobytes() for image in split[0]}


def training_stream(split, epochs, seed=1, flip=True, batch_size=100, distinct=0, **changes):
    augmentation = Augmentation(flip="horizontal" if flip else "none", **changes)
    batches = data.training_batches(
        split, augmentation, batch_size=batch_size, seed=seed, epochs=epochs, distinct=distinct
    )
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def equal(stream, other):
    return len(stream) == len(other) and all(
        np.array_equal(a, b)
        for pair, twin in zip(stream, other, strict=True)
        for a, b in zip(pair, twin, strict=True)
    )


def test_digits_are_raw_pixels_in_three_channels(digits):
    images, labels = digits.train
    assert (images.dtype, images.shape) == (np.uint8, (1293, 32, 32, 3))
    assert (images.min(), images.max()) == (0, 255)
    assert set(labels.tolist()) == set(range(10))
    assert len(digits.validation[1]), len(digits.test[1]) == (144, 360)


def test_batches_are_the_same_for_a_seed_and_others_for_another(digits):
    stream = training_stream(digits.train, range(2))

    assert equal(stream, training_stream(digits.train, range(2)))
    assert not equal(stream, training_stream(digits.train, range(2), seed=2))


def test_a_resumed_stream_continues_the_uninterrupted_one(digits):
    whole = training_stream(digits.train, range(3))

    assert len(whole) == 3 * 12
    assert equal(whole[12:], training_stream(digits.train, range(1, 3)))


def test_epochs_differ_in_order_and_augmentation(digits):
    first, second = (training_stream(digits.train, range(i, i + 1)) for i in range(2))

    assert not equal(first, second)


def test_batches_come_again_after_the_distinct_epochs(digits):
    stream = training_stream(digits.train, range(5), distinct=2)

    assert equal(stream[:24], training_stream(digits.train, range(2)))
    assert equal(stream[24:48], stream[:24])
    assert equal(stream[48:], stream[:12])


def test_an_epoch_shows_no_image_twice():
    labels = np.arange(230)
    stream = training_stream((np.zeros((230, 32, 32, 3), np.uint8), labels), range(1))

    seen = np.concatenate([labels for _, labels in stream])
    assert len(seen) == len(set(seen.tolist())) == 200


def test_without_padding_nothing_is_cropped(digits):
    stream = training_stream(digits.train, range(1), flip=False, padding=0)

    shown = np.concatenate([images for images, _ in stream])
    assert images_of((shown,)) <= images_of(digits.train)


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_crops_the_padded_image_and_mirrors_it(flip):
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)])
    crops = {
        (top, left): padded[top : top + 32, left : left + 32]
        for top in range(9)
        for left in range(9)
    }
    allowed = {crop.tobytes(): (*place, False) for place, crop in crops.items()}
    if flip:
        allowed |= {crop[:, ::-1].tobytes(): (*place, True) for place, crop in crops.items()}
    copies = np.repeat(image[None], 2000, axis=0)

    ((augmented, _),) = training_stream(
        (copies, np.zeros(2000)), range(1), flip=flip, batch_size=2000
    )

    tops, lefts, mirrored = zip(*(allowed[image.tobytes()] for image in augmented), strict=True)
    assert set(tops) == set(lefts) == set(range(9))
    assert np.mean(mirrored) == pytest.approx(0.5 if flip else 0, abs=0.05)


def test_cutout_blackens_a_square_of_the_cropped_image(digits):
    cut = training_stream(digits.train, range(2), cutout=7)

    assert equal(cut, training_stream(digits.train, range(2), cutout=7))
    sizes = set()
    for (images, _), (plain, _) in zip(cut, training_stream(digits.train, range(2)), strict=True):
        for image, whole in zip(images, plain, strict=True):
            rows, columns, _ = (image != whole).nonzero()
            if len(rows):
                sizes |= {np.ptp(rows) + 1, np.ptp(columns) + 1}
                square = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                assert not square.any()
    assert max(sizes) == 7


def test_digits_splits_do_not_overlap(digits):
    train, validation, test = (
        images_of(split) for split in (digits.train, digits.validation, digits.test)
    )

    assert len(train) + len(validation) + len(test) == 1797
    assert not train & validation and not train & test and not validation & test  # noqa: PT018


@pytest.mark.parametrize("name", ["cifar10", "svhn_cropped", "digits"])
def test_statistics_are_those_of_the_training_split(name, request):
    folder = None if name == "digits" else request.getfixturevalue("tfds_dir")
    dataset = data.load(name, folder)

    pixels = dataset.train[0].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(dataset.source.mean, pixels.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(dataset.source.variance, pixels.var(axis=0), atol=0.5)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cifar10", (45_000, 5_000, 10_000)),
        ("svhn_cropped", (7_997, 889, 7_136)),
    ],
)
def test_prepared_data_sets(name, counts, tfds_dir):
    dataset = data.load(name, tfds_dir)
    splits = (dataset.train, dataset.validation, dataset.test)

    assert tuple(len(labels) for _, labels in splits) == counts
    assert all(images.shape[1:] == (32, 32, 3) for images, _ in splits)
    assert len(set.union(*map(images_of, splits))) == sum(counts), "the splits overlap"


def test_data_that_are_missing_and_cannot_be_downloaded(tmp_path, monkeypatch):
    def unreachable(url):
        raise OSError("no route to host")

    monkeypatch.setattr(catalogue, "require_reachable", unreachable)
    with pytest.raises(UserError) as caught:
        data.load("cifar10", tmp_path)

    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(tmp_path),
        "no route to host",
        "TFDS_DATA_DIR",
        "--data-dir",
        "--dataset digits",
    ):
        assert part in message


def test_an_unreachable_host_is_noticed():
    with pytest.raises(OSError, match="refused"):
        catalogue.require_reachable("http://127.0.0.1:9/")


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage", "info"])
def test_damaged_data(damage, tfds_dir, tmp_path):
    original = next((tfds_dir / "svhn_cropped").iterdir())
    folder = tmp_path / "svhn_cropped" / original.name
    folder.mkdir(parents=True)
    for file in original.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    records = next(folder.glob("*train.tfrecord*"))
    if damage == "truncate":
        records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    elif damage == "remove":
        records.unlink()
    elif damage == "garbage":
        records.write_bytes(bytes(records.stat().st_size))
    else:
        (folder / "dataset_info.json").write_text("{")

    with pytest.raises(UserError, match=r"svhn_cropped in .* cannot be read .*--dataset digits"):
        data.load("svhn_cropped", tmp_path)


def test_evaluation_batches_keep_order_and_every_image(digits):
    images, labels = zip(*data.evaluation_batches(digits.test), strict=True)

    assert np.array_equal(tf.concat(images, 0), digits.test[0])
    assert np.array_equal(tf.concat(labels, 0), digits.test[1])
