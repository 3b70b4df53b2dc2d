import inspect
import json
from dataclasses import fields

import pytest

from larq_seresnet import models, pretrained
from larq_seresnet.architecture import Architecture
from training import flags
from training.trainer.config import Config

SMALL = {"width": 4, "input_shape": (8, 8, 3), "fmb": True}
OTHER = {
    "model": "float",
    "activations": "binary",
    "width": 8,
    "blocks": (1, 3),
    "stem": 4,
    "reduction": 2,
    "gate": "tanh",
    "attention_scale": True,
    "float_attention": True,
    "fmb": False,
    "open_gates": True,
    "gradient": "cut",
    "classes": 3,
    "input_shape": (16, 12, 3),
    "mean": (1.0, 2.0, 3.0),
    "variance": (1.0, 2.0, 3.0),
}
each_field = pytest.mark.parametrize("name", [item.name for item in fields(Architecture)])


def small(name):
    """The arguments of a network that may have another value of this field."""
    return {**SMALL, "activations": "binary" if name == "float_attention" else "float"}


def other(name):
    """A small network with another value of one field."""
    return Architecture(**{**small(name), name: OTHER[name]})


@each_field
def test_a_built_network_tells_its_architecture(name):
    assert Architecture.of(models.build(other(name))) == other(name)


@each_field
def test_json_keeps_it(name):
    stored = json.loads(json.dumps(other(name).arguments))

    assert Architecture.from_arguments(other(name).builder, stored) == other(name)


@each_field
def test_a_difference_is_named(name):
    (found,) = Architecture(**small(name)).differences(other(name))

    assert found == (name, getattr(Architecture(**SMALL), name), OTHER[name])


@each_field
def test_weights_of_another_network_are_refused(name, tmp_path):
    pretrained.save(tmp_path / "model.npz", models.build(Architecture(**small(name))), {})
    builder = getattr(models, other(name).builder)
    arguments = {**small(name), name: OTHER[name], "weights": tmp_path / "model.npz"}
    arguments.pop("model", None)
    if builder is models.SEResNet14:
        del arguments["activations"]
    # FMB looks at signs alone; with other classes the dense layer is new.
    if name in ("gradient", "input_shape", "attention_scale", "open_gates", "classes"):
        builder(**arguments)
        return
    with pytest.raises(ValueError, match=f"{name}=.* contradicts|are those of SEResNet14Bin"):
        builder(**arguments)


@pytest.mark.parametrize("builder", [models.SEResNet14, models.SEResNet14Bin])
def test_builders_show_their_arguments(builder):
    shown = set(inspect.signature(builder).parameters)

    hidden = {"model"}
    if builder is models.SEResNet14:
        hidden |= {"activations", "float_attention"}
    assert shown == {item.name for item in fields(Architecture)} - hidden | {"weights"}
    with pytest.raises(TypeError, match="widht"):
        builder(widht=16)


def test_every_hyperparameter_is_a_setting_of_a_run():
    config = Config(width=8, gate="none", blocks=(3, 3, 3))

    assert {**config.decisive(), **Architecture(**config.hyperparameters).summary} == {
        **config.decisive()
    }
    assert "--width 8 --blocks 3 3 3 --gate none" in config.command


@pytest.mark.parametrize("builder", [models.SEResNet14, models.SEResNet14Bin])
@pytest.mark.parametrize("stem", [1, 2, 4])
def test_the_stem_lowers_the_resolution(builder, stem):
    model = builder(width=4, input_shape=(33, 48, 3), stem=stem)

    assert model.get_layer("block1_conv1").output.shape[1:3] == (-(-33 // stem), 48 // stem)
    assert Architecture.of(model).stem == stem


def test_the_stem_is_a_flag(capsys):
    assert flags.parse(Config, "fit", "", ["--stem", "4"]).stem == 4
    with pytest.raises(SystemExit):
        flags.parse(Config, "fit", "", ["--stem", "3"])
    assert "invalid choice: 3 (choose from 1, 2, 4)" in capsys.readouterr().err


def test_the_blocks_are_those_of_each_stage():
    model = models.SEResNet14Bin(width=4, blocks=(1, 2, 1, 1))

    names = [layer.name for layer in model.layers if layer.name.endswith("_conv1")]
    assert names == [f"block{i}_conv1" for i in range(1, 6)]
    assert [model.get_layer(name).filters for name in names] == [4, 8, 8, 16, 32]
    assert model.get_layer("block5_conv2").output.shape[1:3] == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": ()}, "blocks must have a number for each stage"),
        ({"blocks": (2, 0)}, "blocks must be positive integers"),
        ({"model": "ternary"}, "model must be one of binary, float"),
        ({"stem": 3}, "stem must be one of 1, 2, 4, not 3"),
        ({"model": "float", "activations": "binary"}, "binary activations need 1-bit weights"),
        ({"gate": None, "attention_scale": True}, "attention_scale needs a gate"),
        ({"float_attention": True}, "float_attention needs binary activations"),
    ],
    ids=str,
)
def test_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Architecture(**arguments)
    with pytest.raises(ValueError, match="no builder"):
        Architecture.from_arguments("SEResNet99", {})
