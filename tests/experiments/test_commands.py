"""What the commands of `training` share."""

from dataclasses import dataclass

import pytest

from training import flags
from training.command import ending
from training.flags import flag


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a log\n  is damaged"), "a log is damaged"),
        (OSError(13, "Permission denied", "results"), "results: Permission denied"),
        (ImportError("the sweep needs keras-tuner"), "the sweep needs keras-tuner"),
    ],
)
def test_a_mistake_is_one_line(error, line):
    with pytest.raises(SystemExit) as caught, ending("training.x", "nothing was written"):
        raise error

    assert caught.value.code == f"training.x: error: {line}"


@dataclass(frozen=True)
class Counts:
    images: int | None = flag(None, "a number that may be left out")
    body_epochs: tuple[int, ...] = flag((1, 2), "several")

    def __post_init__(self):
        flags.require_positive(self, "images", "body_epochs")


@pytest.mark.parametrize("arguments", [[], ["--images", "1"], ["--body-epochs", "3", "1"]])
def test_counts_from_1_on_are_taken(arguments):
    flags.parse(Counts, "program", "", arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images must be at least 1, not 0"),
        (["--body-epochs", "3", "-2"], "--body-epochs must be at least 1, not -2"),
    ],
)
def test_other_counts_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        flags.parse(Counts, "program", "", arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err
