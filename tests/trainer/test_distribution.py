import csv
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from training import UserError
from training.trainer import data, distribution
from training.trainer.augmentation import Augmentation

FLAGS = ["--dataset", "digits", "--width", "4", "--precision", "float32", "--epochs", "3"]


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Cluster:
    """Processes that train together on this machine."""

    def __init__(self, out, *flags, workers=2):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
        self.workers = [
            start(
                out,
                *flags,
                "--distribute",
                "multiworker",
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            )
            for index in range(workers)
        ]

    def end(self):
        """What each printed, and its exit status."""
        outputs = [worker.communicate(timeout=300)[0] for worker in self.workers]
        return outputs, [worker.returncode for worker in self.workers]


def start(out, *flags, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "training.fit", *FLAGS, "--out", str(out), *flags],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} did not come")


def log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    output, _ = start(folder).communicate(timeout=300)
    assert (folder / "results.json").exists(), output
    return folder


def losses(folder):
    return [float(row["loss"]) for row in log(folder)]


def test_the_workers_shares_are_the_batches_of_one():
    split = data.load("digits").train
    augmentation = Augmentation(flip="both", cutout=4, color_jitter=0.2)
    arguments = {"batch_size": 120, "seed": 1, "epochs": range(2)}
    whole = data.training_batches(split, augmentation, **arguments)
    shares = [
        data.training_batches(split, augmentation, **arguments, worker=i, workers=3)
        for i in range(3)
    ]

    for batch, *parts in zip(whole, *shares, strict=True):
        for ours, *theirs in zip(batch, *parts, strict=True):
            assert all(len(part) == 40 for part in theirs)
            np.testing.assert_array_equal(ours, np.concatenate(theirs))


@pytest.mark.parametrize(
    "content",
    [
        None,
        "no json",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:x"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_wrong_tf_config(content, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if content:
        monkeypatch.setenv("TF_CONFIG", content)

    with (
        pytest.raises(UserError, match=r"needs the environment variable TF_CONFIG, such as \{"),
        distribution.join("multiworker"),
    ):
        pass


def test_a_worker_that_is_not_started(monkeypatch):
    monkeypatch.setattr(distribution, "START_TIMEOUT", 0.5)
    here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": [here, there]}, "task": task})
    )

    with (
        pytest.raises(UserError, match=rf"{there} cannot be reached after 0\.5 seconds"),
        distribution.join("multiworker"),
    ):
        pass


@pytest.mark.slow
def test_two_workers_train_as_one_process(alone, tmp_path):
    outputs, statuses = Cluster(tmp_path / "run").end()

    assert statuses == [0, 0], outputs
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert files == {file.name for file in alone.iterdir()}
    assert "epoch 3/3" in outputs[0]
    assert "epoch" not in outputs[1]
    # Only batch norm differs, which sees half a batch.
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_ends_the_run_which_can_be_resumed(victim, tmp_path):
    cluster = Cluster(tmp_path / "run", "--epochs", "6")
    wait_for(cluster.workers[0], "epoch 2/6")
    cluster.workers[victim].kill()
    killed = time.monotonic()
    outputs, statuses = cluster.end()

    assert time.monotonic() - killed < 2 * distribution.HEARTBEAT_TIMEOUT
    survivor = 1 - victim
    assert statuses[survivor] == 1
    last = outputs[survivor].splitlines()[-1]
    assert "has lost the others" in last
    assert "Traceback" not in outputs[survivor]

    outputs, statuses = Cluster(tmp_path / "run", "--epochs", "6").end()

    assert statuses == [0, 0], outputs
    assert "resuming after epoch" in outputs[0]
    assert [row["epoch"] for row in log(tmp_path / "run")] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.slow
def test_mirrored_replicas_share_the_batch(alone, tmp_path):
    """Two logical CPUs stand for two GPUs."""
    program = (
        "import sys; from training import fit; import tensorflow as tf\n"
        "tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0], "
        "[tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "fit.main(sys.argv[1:])"
    )
    out = tmp_path / "run"
    arguments = [*FLAGS, "--distribute", "mirrored", "--out", str(out)]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert not run.returncode, run.stderr
    assert losses(out) == pytest.approx(losses(alone), rel=0.1)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared(tmp_path):
    outputs, statuses = Cluster(tmp_path / "run", "--batch-size", "33").end()

    assert statuses == [1, 1]
    for output in outputs:
        assert "--batch-size 33 cannot be shared evenly by 2 replicas" in output
    assert not (tmp_path / "run" / "config.json").exists()  # so that the right number can follow
