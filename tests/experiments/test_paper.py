import json
import shutil

import pytest

from tests.experiments import fake_training
from training import UserError
from training.experiments import arms, paper, plan
from training.experiments.jobs import Jobs
from training.trainer.config import Config
from training.trainer.run_folder import read_rows


@pytest.fixture
def trained(monkeypatch):
    """Stands for the training; collects (folder's name, epochs) of what is trained."""
    calls = []

    def train(jobs, config):
        calls.append((config.folder.name, config.epochs))
        return fake_training.train(config)

    monkeypatch.setattr(Jobs, "train", train)
    return calls


@pytest.fixture
def config(tmp_path):
    """The queue in a temporary folder, with tuned learning rates."""
    config = paper.PaperConfig(runs=tmp_path / "runs", results=tmp_path / "results")
    config.tuned.parent.mkdir(parents=True)
    rows = ["without,0.001,40", "without,0.002,30", "ste,0.005,20", "cut,0.001,9", "float32,0.01,9"]
    config.tuned.write_text("\n".join(["group,learning_rate,error", *rows]) + "\n")
    return config


SHORT = plan.Step(arms.ARMS["sigmoid"], seed=0, epochs=2)
OTHER = plan.Step(arms.ARMS["sigmoid_fmb"], seed=0, epochs=2)
LONG = plan.Step(arms.ARMS["sigmoid"], seed=0, epochs=5)


def epochs_kept(config, step):
    return len(read_rows(config.results / step.name / "log.csv"))


def test_runs_are_taken_in_order_and_their_records_are_kept(config, trained):
    paper.work(config, [SHORT, OTHER, LONG])

    assert trained == [(SHORT.name, 2), (OTHER.name, 2), (LONG.name, 5)]
    assert SHORT.name == LONG.name
    assert epochs_kept(config, LONG) == 5
    kept = {file.name for file in (config.results / OTHER.name).iterdir()}
    assert kept == {"config.json", "log.csv", "results.json"}


def test_each_group_trains_at_its_best_rate(config, trained):
    paper.work(config, [SHORT, OTHER])

    for step, rate in ((SHORT, 0.002), (OTHER, 0.005)):
        content = json.loads((config.results / step.name / "config.json").read_text())
        assert content["config"]["learning_rate"] == rate
        assert content["config"]["schedule"] == "constant"


def test_what_is_done_is_skipped(config, trained):
    paper.work(config, [SHORT, OTHER, LONG])
    trained.clear()

    paper.work(config, [SHORT, OTHER, LONG])

    assert trained == []


def test_what_was_done_elsewhere_is_skipped(config, trained):
    """Checkpoints are not kept in the repository, logs are."""
    paper.work(config, [SHORT])
    shutil.rmtree(config.runs)
    trained.clear()

    paper.work(config, [SHORT])

    assert trained == []


def test_a_run_that_was_cut_off_is_taken_up_again(config, trained):
    paper.work(config, [SHORT, OTHER])
    fake_training.train(paper._run(config, LONG, {"without": 0.002}), epochs=3)
    trained.clear()

    paper.work(config, [SHORT, OTHER, LONG])

    assert trained == [(LONG.name, 5)]
    assert epochs_kept(config, LONG) == 5


def test_records_that_were_not_copied_are_copied_without_training(config, trained):
    paper.work(config, [SHORT])
    (config.results / SHORT.name / "log.csv").unlink()  # killed while copying
    trained.clear()

    paper.work(config, [SHORT])

    assert trained == []
    assert epochs_kept(config, SHORT) == 2


def test_an_unfinished_run_is_not_kept(config, monkeypatch):
    def interrupted(jobs, config):
        fake_training.train(config, epochs=1)
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paper.work(config, [SHORT])

    assert not (config.results / SHORT.name).exists()


def test_runs_of_another_learning_rate_are_not_mixed(config, trained):
    paper.work(config, [SHORT])
    config.tuned.write_text("group,learning_rate,error\nwithout,0.1,3\n")

    with pytest.raises(UserError, match=r"holds a run with --learning-rate 0\.002, not 0\.1"):
        paper.work(config, [SHORT])
    with pytest.raises(UserError, match="no learning rate for group ste"):
        paper.work(config, [OTHER])


def test_the_rates_are_tuned_first_with_the_same_budget(tmp_path, trained, monkeypatch):
    config = paper.PaperConfig(runs=tmp_path / "runs", results=tmp_path / "results")

    paper.work(config, [SHORT])

    trials = [name for name, _ in trained[:-1]]
    for group in ("without", "ste", "cut", "float32"):
        assert sum(f"group-{group}_" in name for name in trials) == 6
    assert trained[-1] == (SHORT.name, 2)
    assert config.tuned.exists()


def test_what_is_left_is_said_with_an_estimate(config, trained, capsys):
    paper.work(config, [SHORT])
    capsys.readouterr()

    paper.overview(config, [SHORT, OTHER, LONG])

    printed = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in printed[:4]] == ["done", "done", "left", "left"]
    # 2 epochs of OTHER and 3 more of LONG, at 100 s
    assert printed[-1].startswith("left: 5 epochs in 2 steps, about 0.1 hours")


def test_a_log_that_is_damaged_is_one_clear_line(config, trained, monkeypatch):
    paper.work(config, [SHORT])
    (config.results / SHORT.name / "log.csv").write_text("epoch\n")
    monkeypatch.setattr(plan, "steps", lambda stages: [SHORT])

    with pytest.raises(SystemExit, match="holds no readable run") as caught:
        paper.main(["--runs", str(config.runs), "--results", str(config.results)])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flags", [[], ["--list"]])
def test_so_is_the_log_of_a_run_that_is_left(flags, config, trained, monkeypatch):
    fake_training.train(paper._run(config, OTHER, {"ste": 0.005}))
    (config.runs / OTHER.name / "log.csv").write_text("epoch,seconds\n1\n")
    monkeypatch.setattr(plan, "steps", lambda stages: [OTHER])

    with pytest.raises(SystemExit, match=rf"{OTHER.name}.log\.csv is damaged") as caught:
        paper.main([*flags, "--runs", str(config.runs), "--results", str(config.results)])

    assert "\n" not in str(caught.value)


def test_the_plan_has_the_minimum_that_was_set():
    steps = plan.steps(plan.STAGES)
    names = [step.arm.name for step in steps[:10]]

    assert names == [
        *("sigmoid", "sigmoid_fmb", "sigmoid_cut", "tanh", "tanh_fmb", "hard_tanh"),
        *("hard_tanh_fmb", "float32", "no_se", "frozen_fmb"),
    ]
    for name in names:
        seeds = [step.seed for step in steps[:30] if step.arm.name == name and step.epochs == 10]
        assert seeds == [0, 1, 2]
    pair = ["sigmoid", "sigmoid_fmb"]
    assert [(s.arm.name, s.seed) for s in steps if s.epochs == 30] == [
        *[(name, seed) for seed in (0, 1) for name in pair],
        ("float32", 0),
    ]
    assert [s.arm.name for s in steps if s.epochs == 100] == pair
    assert [s.seed for s in steps if s.dataset == "svhn_cropped"] == [0, 0, 1, 1, 2, 2]


def test_every_arm_is_another_configuration_and_is_found_again():
    for name, arm in arms.ARMS.items():
        config = arm.config(learning_rate=0.1, epochs=7, seed=3, dataset="svhn_cropped")
        assert arms.identify(config.decisive()).name == name
    assert arms.identify(Config().decisive()) is None


def test_all_arms_share_the_batch_size_and_a_constant_rate():
    for arm in arms.ARMS.values():
        config = arm.config(learning_rate=0.1, epochs=7)
        optimizer = "sgd" if arm.name.startswith("sgd") else "adam"
        assert (config.optimizer, config.batch_size) == (optimizer, 128)
        assert config.schedule == "constant"
        assert config.gate == "none" or arm.name.startswith(config.gate) or config.gate == "sigmoid"


def test_the_command_of_a_configuration_gives_that_configuration():
    from training import flags

    for arm in arms.ARMS.values():
        config = arm.config(learning_rate=0.003, epochs=7, seed=2)
        words = config.command.split()
        assert words[:3] == ["python", "-m", "training.fit"]
        assert flags.parse(Config, "fit", "", words[3:]) == config


@pytest.mark.slow
def test_the_queue_trains_and_reports(tmp_path, monkeypatch):
    """With real trainings, on digits."""
    steps = [
        plan.Step(arms.ARMS[name], 0, epochs, "digits")
        for name, epochs in (("sigmoid", 1), ("frozen_fmb", 1), ("sigmoid", 2))
    ]
    monkeypatch.setattr(plan, "steps", lambda stages: steps)
    config = paper.PaperConfig(runs=tmp_path / "runs", results=tmp_path / "results")
    config.tuned.parent.mkdir(parents=True)
    config.tuned.write_text("group,learning_rate,error\nwithout,0.002,1\nste,0.002,1\n")
    flags = ["--runs", str(config.runs), "--results", str(config.results)]

    paper.main(flags)

    assert len(read_rows(config.results / steps[0].name / "gates.csv")) == 2 * 6
    assert epochs_kept(config, steps[1]) == 1
