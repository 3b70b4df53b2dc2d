import json
import shutil

import numpy as np
import pytest

from larq_seresnet import pretrained
from larq_seresnet.models import SEResNet14Bin
from larq_seresnet.prune import prune
from training.publishing import export
from training.trainer import data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Instead of the package's folder of weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


@pytest.fixture
def finish(tmp_path):
    """Writes what a finished run on the digits leaves behind, with an untrained network."""

    def write(**arguments):
        source = data.SOURCES["digits"]
        model = SEResNet14Bin(mean=source.mean, variance=source.variance, **arguments)
        run = tmp_path / "run"
        run.mkdir()
        model.save(run / "model.keras")
        config = {"model": "binary", "dataset": "digits", "fmb": True, "epochs": 3, **arguments}
        images = {"train": 1, "validation": 2, "test": 1234}
        content = {"config": config, "labels": list(source.labels), "data": images}
        (run / "config.json").write_text(json.dumps(content))
        (run / "results.json").write_text(json.dumps({"test_error": 99.0}))
        return run, model

    return write


def test_a_run_becomes_weights_with_the_error_of_the_file(finish, folder, capsys):
    run, model = finish()

    export.main([str(run)])

    file = folder / "seresnet14_bin-digits.npz"
    assert f"wrote {file}" in capsys.readouterr().out
    images, labels = data.load("digits").test
    error = 100 * np.mean(model.predict(images, verbose=0).argmax(axis=1) != labels)
    facts = pretrained.load("digits").metadata
    assert facts["test_error"] == pytest.approx(error, abs=0.01)
    assert facts["labels"] == list("0123456789")
    assert facts["training"] == (
        "python -m training.fit --fmb --dataset digits --epochs 3 --out runs/run"
    )
    table = (folder / "README.md").read_text()
    assert 'SEResNet14Bin(weights="digits")' in table
    assert f"{facts['test_error']:.2f} % of 1,234" in table
    assert "CC BY 4.0" in table


def test_the_run_that_it_started_from_is_named_too(finish, folder, tmp_path):
    run, _ = finish()
    first = tmp_path / "first"
    shutil.copytree(run, first)
    content = json.loads((run / "config.json").read_text())
    content["config"]["start_from"] = str(first)
    (run / "config.json").write_text(json.dumps(content))

    export.main([str(run)])

    flags = "--fmb --dataset digits --epochs 3"
    assert pretrained.load("digits").metadata["training"] == (
        f"python -m training.fit {flags} --out runs/first && "
        f"python -m training.fit {flags} --start-from {first} --out runs/run"
    )


def test_another_width_is_part_of_the_name(finish, folder):
    run, model = finish(width=4)

    export.main([str(run)])

    loaded = SEResNet14Bin(width=4, weights="digits")
    images = data.load("digits").test[0][:8]
    assert np.array_equal(loaded(images), model(images))
    assert '`SEResNet14Bin(width=4, weights="digits")`' in (folder / "README.md").read_text()


def test_a_pruned_network_is_refused(finish, folder):
    run, model = finish(width=4)
    images = data.load("digits").test[0][:8]
    prune(model, images, threshold=0.9).save(run / "model.keras")

    with pytest.raises(SystemExit, match=r"cannot be exported: .* those of a pruned network"):
        export.main([str(run)])
    assert not list(folder.glob("*.npz"))


def test_an_unfinished_run_is_refused(finish, folder):
    run, _ = finish(width=4)
    (run / "results.json").unlink()

    with pytest.raises(SystemExit, match=r"training\.export: error: .*no finished run"):
        export.main([str(run)])


def test_images_of_another_shape_are_refused(finish, folder):
    run, _ = finish(width=4, input_shape=(48, 48, 3))

    with pytest.raises(SystemExit, match=r"cannot be exported: its images have another shape"):
        export.main([str(run)])
    assert not list(folder.glob("*.npz"))


def test_the_table_has_what_was_written_before_a_run_was_refused(finish, folder, tmp_path):
    run, _ = finish(width=4)

    with pytest.raises(SystemExit, match="no finished run"):
        export.main([str(run), str(tmp_path / "nowhere")])
    assert '`SEResNet14Bin(width=4, weights="digits")`' in (folder / "README.md").read_text()
