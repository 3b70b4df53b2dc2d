"""Command-line flags from a dataclass: names, defaults and help come from its fields.

`simple_parsing` does nearly that; but it makes `--nofmb` of what is `--no-fmb` here, and a
traceback of a dataclass's `ValueError`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from larq_seresnet.architecture import option as flag  # noqa: F401  (for all that have flags)

T = TypeVar("T")


def parse(
    cls: type[T],
    program: str,
    description: str,
    arguments: Sequence[str] | None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    further: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> T:
    """Read an instance of the dataclass `cls` from the command line.

    With `recipes`, `--recipe NAME` takes other defaults, which the other flags override; with
    `further`, so does what it makes of all flags.
    `bool` fields become `--name/--no-name`, `Literal` ones choices, `tuple[X, ...]` ones take one
    or more values; `None` is only a default.
    Unknown flags and values, and a `ValueError` of the dataclass, end the program with status 2.
    """
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    hints = get_type_hints(cls)
    for item in fields(cls):  # type: ignore[arg-type]
        parser.add_argument(f"--{item.name.replace('_', '-')}", **_options(item, hints[item.name]))
    if recipes:
        parser.add_argument("--recipe", choices=recipes, help="defaults for the other flags")
        recipe = parser.parse_args(arguments).recipe
        parser.set_defaults(**(recipes[recipe] if recipe else {}))
    if further:
        parser.set_defaults(**further(vars(parser.parse_args(arguments))))
    values = vars(parser.parse_args(arguments))
    values.pop("recipe", None)
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except ValueError as error:
        parser.error(str(error))


def require_positive(config: Any, *names: str) -> None:
    """Refuse numbers below 1 in these fields, and tuples with such; `None` is no number.

    Raises:
        ValueError: There is one.
    """
    for name in names:
        value = getattr(config, name)
        smallest = min(value) if isinstance(value, tuple) else value
        if smallest is not None and smallest < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {smallest}")


def _options(item: Field[Any], hint: Any) -> dict[str, Any]:
    default = None if item.default is MISSING else item.default
    text = item.metadata["help"].replace("%", "%%")
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    options = {"default": default, "help": text if default is None else f"{text} ({shown})"}
    if hint is bool:
        return {**options, "action": argparse.BooleanOptionalAction}
    if isinstance(hint, UnionType):  # X | None
        hint = next(choice for choice in get_args(hint) if choice is not type(None))
    if get_origin(hint) is tuple:  # tuple[X, ...]
        hint, options["nargs"] = get_args(hint)[0], "+"
    if get_origin(hint) is Literal:
        return {**options, "choices": get_args(hint), "type": type(get_args(hint)[0])}
    return {**options, "type": hint}
