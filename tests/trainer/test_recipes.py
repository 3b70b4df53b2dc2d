import shlex
from dataclasses import replace

import pytest

from training import flags
from training.trainer.config import Config
from training.trainer.recipes import RECIPES


def parse(*arguments):
    return flags.parse(Config, "training.fit", "", arguments, RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_that_its_command_repeats(name):
    config = parse("--recipe", name)

    assert config == Config(**RECIPES[name])
    assert parse(*shlex.split(config.command)[3:]) == config


def test_flags_override_the_recipe():
    config = parse("--seed", "3", "--recipe", "best", "--epochs", "7", "--no-fmb")

    assert config == replace(Config(**RECIPES["best"]), seed=3, epochs=7, fmb=False)


def test_without_a_recipe_the_defaults_are_the_papers():
    assert parse() == Config()


def test_an_unknown_recipe_lists_those_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--recipe", "worst")

    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "argument --recipe: invalid choice: 'worst'" in error
    assert all(name in error for name in RECIPES)
