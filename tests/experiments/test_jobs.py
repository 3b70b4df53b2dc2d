import json
import os
import signal
import sys
import threading
import time
from functools import partial

import pytest

from training import UserError
from training.experiments.jobs import Jobs
from training.trainer.config import Config
from training.trainer.run_folder import read_rows


def config(folder, **changes):
    settings = {
        "dataset": "digits",
        "width": 4,
        "blocks": (1, 1),
        "epochs": 1,
        "batch_size": 128,
        **changes,
    }
    return Config(**settings, out=folder)


@pytest.fixture
def sigterm_interrupts():
    """As in the commands; SIGINT may be ignored where tests run in the background."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def test_runs_are_trained_in_processes_of_their_own(tmp_path, capsys):
    jobs = Jobs(1)
    run = config(tmp_path / "a run", learning_rate=0.003)

    jobs.work([partial(jobs.train, run)])

    assert len(read_rows(run.folder / "log.csv")) == 1
    assert json.loads((run.folder / "config.json").read_text())["config"]["learning_rate"] == 0.003
    assert "a run: epoch 1/1: loss" in capsys.readouterr().out


def test_a_run_that_fails_says_why_and_no_other_is_begun(tmp_path):
    jobs = Jobs(1)
    begun = []
    bad = config(tmp_path / "bad", batch_size=10**6)
    with pytest.raises(UserError, match=r"bad failed: --batch-size 1000000 is more than") as caught:
        jobs.work([partial(jobs.train, bad), partial(begun.append, 1)])

    assert "\n" not in str(caught.value)
    assert begun == []


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_run_that_was_killed_does_not_give_its_last_epoch_as_the_reason(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho epoch 1/9: loss 2.3\nsleep 0.5\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    jobs = Jobs(1)

    with pytest.raises(UserError, match=r"a failed: status -9$"):
        jobs.work([partial(jobs.train, config(tmp_path / "a"))])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs 2 cores")
def test_an_interruption_stops_what_runs_and_it_can_go_on(tmp_path, sigterm_interrupts):
    jobs = Jobs(2)
    runs = [config(tmp_path / name, epochs=1000, schedule="constant") for name in "ab"]

    def interrupt():
        while not all((run.folder / "model.keras").exists() for run in runs):
            time.sleep(0.1)
        assert [len(os.sched_getaffinity(child.pid)) for child in jobs._children] == [
            len(os.sched_getaffinity(0)) // 2
        ] * 2
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        jobs.work([partial(jobs.train, run) for run in runs])

    assert not jobs._children
    for run in runs:
        assert 0 < len(read_rows(run.folder / "log.csv")) < 1000


@pytest.mark.parametrize("number", [0, 10**6])
def test_there_are_no_more_jobs_than_cores(number):
    with pytest.raises(UserError, match="--jobs must be from 1 to"):
        Jobs(number)
