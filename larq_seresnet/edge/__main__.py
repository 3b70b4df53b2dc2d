"""`python -m larq_seresnet.edge classify | benchmark | info`."""

import argparse
import io
import sys
from dataclasses import MISSING, fields
from typing import Any

from larq_seresnet.edge.benchmark import Benchmark
from larq_seresnet.edge.classify import Classify
from larq_seresnet.edge.errors import RuntimeMissingError, one_line, written_output
from larq_seresnet.edge.info import Info

# Each command is a dataclass: its fields are the flags, its docstring the help, run() what it does.
_COMMANDS: dict[str, Any] = {"classify": Classify, "benchmark": Benchmark, "info": Info}


def _add_field(parser: argparse.ArgumentParser, field: Any) -> None:
    options: dict[str, Any] = {"help": field.metadata["help"]}
    name = "--" + field.name.replace("_", "-")
    if field.default is MISSING:  # without a default it is positional
        name = field.name
        options |= {"metavar": field.name.upper()}
        if field.metadata.get("many"):
            options |= {"nargs": "+", "metavar": field.name.rstrip("s").upper()}
    elif isinstance(field.default, bool):
        options |= {"action": "store_true"}
    else:
        options |= {"type": type(field.default), "default": field.default, "metavar": "N"}
        options["help"] += f" (default: {field.default})"
    parser.add_argument(name, **options)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m larq_seresnet.edge", description="Run .tflite files without TensorFlow."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        description = command.__doc__.split("\n\n")[0]
        subparser = commands.add_parser(name, help=description, description=description)
        for field in fields(command):
            _add_field(subparser, field)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        with written_output():
            values = vars(parser.parse_args(arguments))
            return _COMMANDS[values.pop("command")](**values).run()
    except BrokenPipeError:  # the reader, like `head`, has seen enough
        return 141
    except MemoryError:
        print("error: this takes more memory than there is", file=sys.stderr)
        return 1
    except (RuntimeMissingError, OSError, TypeError, ValueError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
