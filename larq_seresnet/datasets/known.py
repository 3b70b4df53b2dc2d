"""The data sets that are known before they are loaded: their labels, statistics and licences."""

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.architecture import CIFAR10_MEAN, CIFAR10_VARIANCE
from larq_seresnet.datasets.data import Source, Split

_DIGITS = tuple("0123456789")
_DIGITS_LICENCE = (
    "[Optical Recognition of Handwritten Digits]"
    "(https://archive.ics.uci.edu/dataset/80): CC BY 4.0 (Alpaydin and Kaynak, 1998)"
)
_SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
_SVHN_LICENCE = f"[SVHN]({_SVHN_URL}): for non-commercial use only (Netzer et al., 2011)"

SOURCES = {
    "cifar10": Source(
        labels=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        mean=CIFAR10_MEAN,
        variance=CIFAR10_VARIANCE,
        flip=True,
        licence="[CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html): its authors state no "
        "licence and ask for a citation (Krizhevsky, 2009)",
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "svhn_cropped": Source(
        labels=_DIGITS,
        mean=(112.7, 114.0, 121.2),
        variance=(2576.0, 2647.0, 2540.0),
        flip=False,
        licence=_SVHN_LICENCE,
        url=_SVHN_URL,
    ),
    "digits": Source(
        labels=_DIGITS,
        mean=(77.8,) * 3,
        variance=(6819.0,) * 3,
        flip=False,
        licence=_DIGITS_LICENCE,
    ),
}


def load_digits(size: int = 32) -> dict[str, Split]:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to `size` pixels, as RGB."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = tf.image.resize(digits.images[..., None] * (255 / 16), (size, size)).numpy()
    images = np.repeat(images.round().astype(np.uint8), 3, axis=-1)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    test, validation, train = np.split(order, [360, 360 + 144])
    parts = {"train": train, "validation": validation, "test": test}
    return {name: (images[part], labels[part]) for name, part in parts.items()}
