import numpy as np
import pandas as pd

from training.experiments import finetuning
from training.trainer import data


def test_some_classes_alone_with_few_images_of_each():
    digits = data.load("digits")
    part = finetuning.only(digits, ("7", "2"))

    assert part.source.labels == ("2", "7")
    for split in ("train", "validation", "test"):
        images, labels = getattr(digits, split)
        kept = np.isin(labels, (2, 7))
        assert np.array_equal(getattr(part, split)[0], images[kept])
        assert np.array_equal(getattr(part, split)[1], (labels[kept] == 7).astype(int))
    few = finetuning.few(part, 20, seed=1)
    assert np.bincount(few.train[1]).tolist() == [20, 20]
    assert len({image.tobytes() for image in few.train[0]}) == 40
    assert np.array_equal(few.train[0], finetuning.few(part, 20, seed=1).train[0])
    assert not np.array_equal(few.train[0], finetuning.few(part, 20, seed=2).train[0])


def test_the_table_has_means_and_paired_gains():
    errors = {"scratch": (40, 44), "finetune": (20, 22), "freeze": (30, 30)}
    rows = pd.DataFrame(
        {"task": "svhn", "images": 50, "way": way, "seed": seed, "test_error": float(error)}
        for way, values in errors.items()
        for seed, error in enumerate(values)
    )
    text = finetuning.table(rows, finetuning.FinetuningConfig(seeds=2))
    assert "| 50 | 42.0 ± 2.8 | 21.0 ± 1.4 | 30.0 ± 0.0 | +21.0 ± 1.4 |" in text
