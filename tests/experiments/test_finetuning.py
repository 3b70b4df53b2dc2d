from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

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


def test_the_body_is_held_in_short_runs_too(tmp_path, monkeypatch):
    pictures = replace(data.load("digits"), source=data.SOURCES["cifar10"])
    runs = {}
    monkeypatch.setattr(finetuning.data, "load", lambda *_: pictures)
    monkeypatch.setattr(finetuning.fit, "fit", lambda run, _: runs.setdefault(run.folder.name, run))
    monkeypatch.setattr(finetuning.fit, "evaluate", lambda *_: ({"test_error": 1.0}, None))
    monkeypatch.setattr(finetuning.tf.keras.models, "load_model", lambda *_, **__: None)
    flags = ["--images", "5", "--seeds", "2", "--epochs", "4"]

    finetuning.main([*flags, "--runs", str(tmp_path), "--results", str(tmp_path / "results")])

    held = {way: runs[f"svhn_5_{way}_seed1"].freeze_body for way in finetuning.WAYS}
    assert held == {"scratch": 0, "finetune": 0, "freeze": 1}
    assert len(runs) == 1 + 2 * 2 * 3


@pytest.mark.parametrize("name", ["images", "seeds", "epochs", "body-epochs", "batch-size"])
def test_a_count_of_none_is_refused(name, capsys):
    with pytest.raises(SystemExit):
        finetuning.main([f"--{name}", "0"])
    assert f"--{name} must be at least 1, not 0" in capsys.readouterr().err
