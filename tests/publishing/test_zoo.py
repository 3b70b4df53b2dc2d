"""Every file in `tflite_models/` is what the table says."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from larq_seresnet import datasets
from larq_seresnet.convert import graph, runners
from larq_seresnet.edge import Interpreter
from training import UserError
from training.publishing import zoo

ENTRIES = zoo.load()


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["file"] for entry in ENTRIES])
def test_file_is_as_stated(entry):
    file = (zoo.FOLDER / entry["file"]).read_bytes()
    assert hashlib.sha256(file).hexdigest() == entry["sha256"]
    assert len(file) == entry["bytes"]
    operators = Counter(operator.name for operator in graph.parse(file).operators)
    assert dict(operators) == entry["operators"]
    assert graph.parse(file).metadata["larq_seresnet"]


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["file"] for entry in ENTRIES])
def test_file_classifies_real_images_as_stated(entry, tfds_dir):
    count = len(entry["first_classes"])
    images, _ = datasets.read(entry["dataset"], count=count, data_dir=tfds_dir)
    first = images.astype(np.float32)
    file = (zoo.FOLDER / entry["file"]).read_bytes()
    (probabilities,) = runners.run(file, entry["target"], [first])
    assert probabilities.argmax(axis=1).tolist() == entry["first_classes"]
    on_device = Interpreter(file).predict(first).argmax(axis=1)
    # A sign may turn round; and the two interpreters' int8 arithmetic rounds at other places.
    others, error = (5, 0.3) if entry["file"].endswith("_int8.tflite") else (1, 0.1)
    assert np.sum(on_device != entry["first_classes"]) <= others
    assert entry["edge_test_error"] == pytest.approx(entry["test_error"], abs=error)


def test_no_file_is_missing_from_the_table():
    files = sorted(path.name for path in zoo.FOLDER.glob("*.tflite"))
    assert files == sorted(entry["file"] for entry in ENTRIES)
    assert (zoo.FOLDER / "README.md").read_text() == zoo.table(ENTRIES)


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"training\.zoo: error: .*no finished run"):
        zoo.main([str(tmp_path)])


def test_networks_that_were_finished_before_a_mistake_are_in_the_table(tmp_path, monkeypatch):
    def add(name):
        if name == "bad":
            raise UserError("there is no such network")
        return [{"file": name}]

    saved = []
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    monkeypatch.setattr(zoo, "load", list)
    monkeypatch.setattr(zoo, "add", add)
    monkeypatch.setattr(zoo, "save", saved.append)

    with pytest.raises(SystemExit, match="no such network"):
        zoo.main(["good", "bad"])

    assert saved[-1] == [{"file": "good"}]
