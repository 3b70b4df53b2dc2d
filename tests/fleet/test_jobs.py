"""A plan's way to the GPU and back, and what is learned on it."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models, sources
from tests.conftest import ROOT
from training import UserError
from training.fleet import __main__ as command
from training.fleet import jobs
from training.trainer import network
from training.trainer.config import Config
from training.trainer.run_folder import read_rows

torch = pytest.importorskip("torch")
worker = pytest.importorskip("training.fleet.gpu.__main__")
learning = pytest.importorskip("training.fleet.gpu.learning")
gpu_pictures = pytest.importorskip("training.fleet.gpu.pictures")
schedule = pytest.importorskip("training.fleet.gpu.schedule")

SMALL = "--dataset digits --epochs 3 --width 4 --blocks 1 1 --batch-size 64"


def write(path, *waves):
    path.write_text(json.dumps(waves))
    return path


@pytest.mark.slow
def test_a_plan_becomes_run_folders(tmp_path, capsys):
    plan = write(
        tmp_path / "plan.json",
        [
            {
                "name": "teacher",
                "flags": f"{SMALL} --model float --optimizer sgd --calibration 3",
                "options": {"grid": 8},
            }
        ],
        [
            {
                "name": "binary",
                "flags": f"{SMALL} --fmb --distill teacher --calibration 3",
                "options": {"grid": 8},
            },
            {
                "name": "pooled",
                "flags": f"{SMALL} --activations binary --float-attention --fmb --open-gates",
                "options": {"grid": 8, "shortcut": "pool", "tail": 0.4},
            },
        ],
    )
    folder, runs = tmp_path / "jobs", tmp_path / "runs"
    command.main(["prepare", str(plan), str(folder)])
    worker.main([str(folder), "0", "1", "--together", "1", "--device", "cpu"])
    said = capsys.readouterr().out
    assert said.count("1 runs prepared") == 3  # one after the other
    capsys.readouterr()
    worker.main([str(folder), "1", "--device", "cpu"])
    assert "epoch" not in capsys.readouterr().out  # what is done is skipped
    command.main(["collect", str(folder), str(runs)])
    assert "binary: validation" in capsys.readouterr().out

    for name in ("teacher", "binary"):
        measured = json.loads((runs / name / "results.json").read_text())
        by_worker = json.loads((folder / f"{name}.json").read_text())["final"]
        for split in ("validation_error", "test_error"):
            # An image more or less, whose two likeliest classes are level.
            assert measured[split] == pytest.approx(by_worker[split], abs=0.3)
        rows = read_rows(runs / name / "log.csv")
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert rows[-1]["loss"] < rows[0]["loss"]
    assert sources.load(str(runs / "binary")).metadata["config"]["fmb"]
    pooled = json.loads((runs / "pooled" / "config.json").read_text())
    assert pooled["options"]["shortcut"] == "pool"
    assert not (runs / "pooled" / "model.keras").exists()


def run_on_few_pictures(tmp_path, flags):
    plan = write(tmp_path / "plan.json", [{"name": "a", "flags": f"{SMALL} {flags}"}])
    jobs.prepare(plan, tmp_path)
    (spec,) = json.loads((tmp_path / "jobs.json").read_text())["waves"][0]
    random = np.random.default_rng(0)
    splits = {"train": 64, "validation": 10}
    arrays = {f"{k}_images": random.integers(0, 256, (n, 32, 32, 3)) for k, n in splits.items()}
    labels = {f"{k}_labels": random.integers(0, 10, n) for k, n in splits.items()}
    np.savez(tmp_path / "few.npz", **labels, **{k: x.astype(np.uint8) for k, x in arrays.items()})
    facts = json.loads((tmp_path / "jobs.json").read_text())["datasets"]["digits"]
    pictures = learning.Pictures.load(tmp_path / "few.npz", facts, torch.device("cpu"))
    return learning.Run(spec, pictures, None, None, torch.device("cpu"))


def test_a_shortened_run_ends_with_the_whole_schedule(tmp_path):
    run = run_on_few_pictures(tmp_path, "--epochs 40")
    while not run.done:
        run.begin_epoch()
        run.step()
        run.end_epoch()
        run.seconds.append(1.0)
        if run.epoch == 2:
            run.shorten(4)
    run.finish()
    rates = [row["learning_rate"] for row in run.record()["rows"]]
    assert len(rates) == 4
    assert rates[-1] == pytest.approx(run.spec["learning_rate"] / 4)  # the last of four steps


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"name": "a", "flags": "--dataset digits --cutout 4"}, "no worker can do --cutout"),
        ({"name": "a", "flags": "--dataset digits --stem 2"}, "the stem 1"),
        ({"name": "a", "flags": "--dataset digits", "options": {"tial": 1}}, "no option tial"),
        ({"name": "a", "flags": "--dataset digits --distill x/a"}, "name of a run of the plan"),
        ({"flags": ""}, "no readable plan"),
        ("a", "no readable plan"),
        ({"name": "a", "seeds": 3}, "no readable plan"),
        ({"name": "a", "seeds": [3]}, "no readable plan"),
        ({"name": "a", "seeds": ["3", "4"]}, "no readable plan"),
    ],
)
def test_what_no_worker_does_is_refused(run, message, tmp_path):
    with pytest.raises(UserError, match=message):
        jobs.prepare(write(tmp_path / "plan.json", [run]), tmp_path / "jobs")


def test_two_runs_of_one_name_are_refused(tmp_path):
    run = {"name": "a", "flags": "--dataset digits"}
    with pytest.raises(UserError, match="two runs of one name"):
        jobs.prepare(write(tmp_path / "plan.json", [run, run]), tmp_path / "jobs")


def test_neighbours_with_the_same_seeds_take_turns(tmp_path):
    about = {"flags": "--dataset digits", "seeds": [3, 4]}
    plan = [{"name": "a", **about}, {"name": "b", **about}, {"name": "c", **about, "seeds": [0, 0]}]

    assert jobs.prepare(write(tmp_path / "plan.json", plan), tmp_path) == 5

    (wave,) = json.loads((tmp_path / "jobs.json").read_text())["waves"]
    found = [(spec["name"], spec["seed"]) for spec in wave]
    assert found == [("a-3", 3), ("b-3", 3), ("a-4", 4), ("b-4", 4), ("c-0", 0)]


def test_a_run_is_taken_by_one_process_that_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_TAKEN", [])
    script = "from gpu.__main__ import _take; print(_take(Path(sys.argv[1]), 'a'), flush=True)"
    words = ["-c", f"import sys; from pathlib import Path; {script}; input()", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    place = ROOT / "training" / "fleet"
    with subprocess.Popen([sys.executable, *words], cwd=place, **pipes) as other:
        assert other.stdout.readline() == "True\n"
        assert not worker._take(tmp_path, "a")
        assert worker._take(tmp_path, "b")
        other.kill()
    assert worker._take(tmp_path, "a")
    assert not worker._take(tmp_path, "a")


def test_what_is_done_is_not_taken(tmp_path):
    (tmp_path / "a.json").touch()
    assert not worker._take(tmp_path, "a")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--together", "0"], "--together is at least 1"),
        (["--seconds", "0"], "--seconds must be positive, not 0.0"),
        (["--seconds", "nan"], "--seconds must be positive, not nan"),
        (["0", "3"], "there is no wave 3, only 1 from 0 on"),
    ],
)
def test_bad_flags(flags, message, tmp_path, capsys):
    (tmp_path / "jobs.json").write_text(json.dumps({"datasets": {}, "waves": [[]]}))
    with pytest.raises(SystemExit) as caught:
        worker.main([str(tmp_path), *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_jobs(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "jobs.json").write_text(content)
    with pytest.raises(SystemExit):
        worker.main([str(tmp_path)])
    assert "holds no jobs" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit, match="holds no jobs"):
        command.main(["collect", str(tmp_path), str(tmp_path / "runs")])


@pytest.mark.parametrize("name", ["pictures-digits", "teacher"])
def test_what_was_cut_off_is_written_anew(name, tmp_path, monkeypatch):
    teacher = models.SEResNet14(width=4, blocks=(1, 1))
    monkeypatch.setattr(jobs.targets, "load_teacher", lambda *_: teacher)
    run = {"name": "a", "flags": "--dataset digits --distill teacher"}
    plan = write(tmp_path / "plan.json", [run])
    whole = np.savez

    def full_disk(file, **arrays):
        if name not in Path(file).name:
            return whole(file, **arrays)
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs.np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        jobs.prepare(plan, tmp_path)
    monkeypatch.setattr(jobs.np, "savez", whole)

    jobs.prepare(plan, tmp_path)

    with np.load(tmp_path / f"{name}.npz") as file:
        assert file.files
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_a_teacher_whom_a_process_asked_that_died_is_asked_again(tmp_path, monkeypatch):
    pictures = run_on_few_pictures(tmp_path, "")._pictures
    teacher = tmp_path / "teacher.npz"
    teacher.with_suffix(".json").touch()
    (tmp_path / "answers-teacher.asked").touch()
    banks = [gpu_pictures.Bank(pictures, 10) for _ in range(2)]
    monkeypatch.setattr(banks[0], "_ask", lambda _: banks[0].logits.fill_(1))

    for bank in banks:  # the second one finds the answers of the first
        bank.fill(teacher)

    assert (banks[1].logits == 1).all()


def test_a_run_is_kept_though_the_time_does_not_last_for_an_epoch_more(tmp_path, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(time=lambda: now[0], strftime=time.strftime)
    saved = []
    monkeypatch.setattr(worker, "time", clock)
    monkeypatch.setattr(worker, "_save", lambda _, run: saved.append(run.epoch))

    class Run:
        def __init__(self):
            self.spec, self.seconds = {"name": "a"}, []
            self.steps, self.epochs, self.epoch = 1, 40, 0

        def prepare(self):
            pass

        begin_epoch = step = finish = prepare

        def end_epoch(self):
            self.epoch += 1
            now[0] += 10

        def shorten(self, epochs):
            self.epochs = epochs

        def line(self):
            return ""

        @property
        def done(self):
            return self.epoch >= self.epochs

    loaded = SimpleNamespace(
        banks={}, device=torch.device("cpu"), folder=tmp_path, run=lambda _: Run()
    )
    # 10.1 seconds after the sixth epoch, 97 % of which are less than an epoch takes
    worker._train_together(loaded, 0, [{}], deadline=70.1)

    assert saved == [7]


def test_what_gates_let_through(tmp_path):
    run = run_on_few_pictures(tmp_path, "")
    run.epoch = 1

    def network(*_):
        z = torch.tensor([[0.0, -4.0]], requires_grad=True)
        return torch.stack([z.sum(), torch.zeros(())])[None], [z]

    run._network = network

    ((on, flat, slope, gradient),) = run.gates(torch.zeros(1), torch.tensor([0])).tolist()

    # By hand: sigmoid's slope is s (1 - s), at most 1/4; the loss is log(1 + exp(-(0 - 4))).
    s = 1 / (1 + math.exp(4))
    assert (on, flat) == (0.5, 0.5)
    assert slope == pytest.approx((1 + 4 * s * (1 - s)) / 2)
    assert gradient == pytest.approx(1 - s)


@pytest.mark.parametrize("gate", ["sigmoid", "tanh", "hard_tanh"])
def test_no_gradient_comes_through_fmb_to_the_letter(gate, tmp_path):
    found = {}
    for gradient in ("ste", "cut"):
        (tmp_path / gradient).mkdir()
        flags = f"--gate {gate} --fmb --gradient {gradient} --attention-scale"
        run = run_on_few_pictures(tmp_path / gradient, flags)
        run.epoch = 1
        found[gradient] = run.errors()["gates"]

    assert found["ste"].shape == (2, 4)  # of two modules
    assert found["ste"][0, 3] > 0
    assert (found["cut"][:, 3] == 0).all()
    assert torch.equal(found["ste"][0, :3], found["cut"][0, :3])


@pytest.mark.parametrize("flags", [{"optimizer": "adam"}, {"optimizer": "sgd"}])
def test_updates_are_those_of_keras(flags):
    config = Config(epochs=2, weight_decay=0.01, schedule="one-cycle", **flags)
    steps = 10
    optimizer = network.optimizer(config, steps)
    random = np.random.default_rng(0)
    start = random.normal(size=50).astype(np.float32)
    gradients = random.normal(size=(2 * steps, 50)).astype(np.float32)
    weight = tf.Variable(start)
    spec = {**jobs.OPTIONS, "epochs": 2, "fmb_start": 0, "fmb_epochs": None}
    spec |= {name: getattr(config, name) for name in ("optimizer", "learning_rate", "warmup")}
    spec |= {"schedule": config.schedule, "description": {"fmb": False}}
    table = schedule.Schedule(spec, steps, torch.device("cpu"))
    flat, moments = torch.tensor(start), torch.zeros(2, 50)
    decay, limit = torch.full((50,), 0.01), torch.full((50,), torch.inf)
    adam = config.optimizer == "adam"
    for number, gradient in enumerate(gradients):
        step = torch.tensor([number])
        optimizer.apply_gradients([(tf.constant(gradient), weight)])
        expected = optimizer.learning_rate.numpy()
        rate, size = table.at("rates", step), table.at("sizes", step)
        assert rate.item() == pytest.approx(float(expected), rel=1e-4)
        learning._update(adam, flat, torch.tensor(gradient), moments, decay, limit, rate, size)
        np.testing.assert_allclose(flat, weight.numpy(), rtol=1e-4, atol=1e-5)
