import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from larq_seresnet.models import SEResNet14Bin
from training import UserError
from training.benchmark import __main__ as benchmark
from training.benchmark import report
from training.benchmark.turns import Task, Turn
from training.trainer import data

TINY = ["--dataset", "digits", "--widths", "4", "--batch-size", "16", "--rounds", "2"]


def run(*arguments):
    benchmark.main([*TINY, *arguments])


def twin_of(model, activations):
    """The PyTorch twin with the Keras network's weights."""
    torch = pytest.importorskip("torch")
    from training.benchmark import torch_twin

    twin = torch_twin.SEResNet14Bin(4, activations)

    def copy(module, layer):
        values = [torch.tensor(weight) for weight in layer.get_weights()]
        if isinstance(module, torch.nn.BatchNorm2d):
            targets = [module.weight, module.bias, module.running_mean, module.running_var]
        else:
            kernel = values[0]
            values[0] = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            targets = [module.weight, *([module.bias] if len(values) == 2 else [])]
        for target, value in zip(targets, values, strict=True):
            assert target.shape == value.shape
            target.data.copy_(value)

    def copy_all(modules, layers):
        modules = [
            module
            for module in modules
            if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear)
        ]
        for module, layer in zip(modules, layers, strict=True):
            copy(module, layer)

    copy_all(twin.body[:2], [model.get_layer("conv"), model.get_layer("bn")])
    blocks = [block for block in twin.body if isinstance(block, torch_twin._Block)]
    for number, block in enumerate(blocks, 1):
        names = ("conv1", "bn1", "conv2", "bn2")
        layers = [model.get_layer(f"block{number}_{name}") for name in names]
        attention = model.get_layer(f"block{number}_se")
        inner = [attention.squeeze, attention.excite]
        if activations == "binary":
            inner = [attention.norms[0], inner[0], attention.norms[1], inner[1]]
        copy_all([*block.first, *block.second, *block.second[-1].layers], [*layers, *inner])
        if number in (3, 5):
            names = (f"block{number}_shortcut", f"block{number}_shortcut_bn")
            copy_all(block.shortcut, [model.get_layer(name) for name in names])
    copy_all([twin.dense], [model.get_layer("dense")])
    return twin.eval()


@pytest.mark.parametrize("activations", ["float", "binary"])
def test_the_pytorch_twin_is_the_same_network(activations):
    torch = pytest.importorskip("torch")
    # Of odd size: with stride 2 Keras pads both sides then, as PyTorch does.
    model = SEResNet14Bin(width=4, activations=activations, fmb=False, input_shape=(33, 33, 3))
    images = np.random.default_rng(0).normal(size=(8, 33, 33, 3)).astype(np.float32)
    pixels = images * np.sqrt(model.get_layer("standardize").variance) + (
        model.get_layer("standardize").mean
    )
    model(pixels, training=True)  # moves batch norm's statistics

    twin = twin_of(model, activations)
    with torch.no_grad():
        probabilities = twin(torch.tensor(images).permute(0, 3, 1, 2)).softmax(-1).numpy()

    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert sum(parameter.numel() for parameter in twin.parameters()) == trainable
    np.testing.assert_allclose(probabilities, model(pixels, training=False), atol=1e-4)


def series(variant, activations, *turns, width=16):
    return report.Series(variant, width, activations, 1.0, [Turn(*turn) for turn in turns])


def test_ratios_are_medians_of_the_rounds_ratios():
    # The machine is twice as slow in the second round.
    rows = report.summarize(
        [
            series("fit", "float", (100, 1, 10, 0.1, 1), (100, 2, 10, 0.2, 2)),
            series("plain", "float", (50, 1, 10, 1, 0), (50, 2, 10, 2, 0)),
            series("torch-float32", "float", (10, 1, 10, 1, 0), (10, 2, 10, 2, 0)),
            series("torch-bfloat16", "float", (80, 1, 10, 1, 0), (80, 2, 10, 2, 0)),
            series("fit-input", "float", (1000, 1), (1000, 2)),
            series("fit", "binary", (90, 1, 10, 1, 1), (90, 2, 10, 2, 2)),
        ],
        images=1000,
        evaluation_images=100,
    )

    fit = rows[0]
    assert fit["training_images_per_second"] == [55, 75, 95]
    assert fit["evaluation_times_training"] == [1, 1, 1]
    assert fit["training_times_plain"] == [2, 2, 2]
    assert fit["training_times_best_torch"] == [1.25, 1.25, 1.25]
    assert fit["epoch_seconds"][1] == 1.5 * (10 + 1 + 1)
    assert fit["epoch_times_plain"][1] == 30 / 12
    assert fit["other_percent_of_epoch"][1] == pytest.approx(100 / 12, rel=1e-4)
    assert rows[4]["times_training"] == [10, 10, 10]
    assert rows[5]["training_times_weights_only"] == [0.9, 0.9, 0.9]
    table = report.table(rows)
    assert "| width 16, weights-only | fit | 75 (55 to 95) | 2.00 | 1.25 |" in table
    assert "fit-input beside width 16: 750 images/s, 10.0 times as fast as training" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, not 0"),
        (["--widths", "0"], "--widths must be at least 1, not 0"),
        (["--json", "/no/such/folder/x.json"], "--json must be a file in a folder that exists"),
        (["--variants", "jax"], "argument --variants: invalid choice"),
    ],
)
def test_bad_flags(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_more_steps_than_the_data_set_has():
    with pytest.raises(SystemExit, match="are more than the 1293 training images of digits"):
        run("--steps", "100")


def test_without_pytorch_its_variants_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    measured = []
    monkeypatch.setattr(
        benchmark, "benchmark", lambda config: measured.append(config) or sys.exit(0)
    )

    with pytest.raises(SystemExit):
        run()

    assert measured[0].variants == ("fit", "plain", "fit-input", "plain-input")
    assert "PyTorch is not installed (pip install" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_benchmark(tmp_path, capsys):
    run("--steps", "1", "--activations", "float", "--json", str(tmp_path / "numbers.json"))

    content = json.loads((tmp_path / "numbers.json").read_text())
    variants = [one["variant"] for one in content["series"]]
    assert variants[:2] == ["fit", "plain"]
    assert variants[-2:] == ["fit-input", "plain-input"]
    assert all(len(one["turns"]) == 2 for one in content["series"])
    assert all(turn["training_seconds"] > 0 for one in content["series"] for turn in one["turns"])
    assert content["series"][0]["turns"][0]["other_seconds"] > 0
    assert content["machine"]["cores"]
    assert content["machine"]["versions"]["tensorflow"]
    assert "| width 4, weights-only | plain |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_variant_that_fails():
    task = Task("fit", 4, "float", 16, 1, 1, data.load("digits"), Path("/proc/none"))

    with pytest.raises(UserError, match=r"fit, width 4: --out /proc/none.* is no folder"):
        benchmark.take_turns([task])
