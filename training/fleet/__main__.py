"""Trains many networks on one GPU.

    python -m training.fleet prepare plan.json jobs/      # here: a folder of jobs
    cd training/fleet && python -m gpu jobs/ 0            # where the GPU is: wave 0 of the plan
    python -m training.fleet collect jobs/ runs/          # here: run folders, as training.fit's
    python -m training.fleet tables jobs/ tables/         # or the logs alone, for training.report

A plan is a list of waves, each a list of runs; the runs of a wave are trained together:

    [[{"name": "best-0", "flags": "--recipe best"},
      {"name": "best-tail-0", "flags": "--recipe best", "options": {"tail": 0.4}}]]

`training/fleet/jobs.py` lists the options, which are for experiments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.command import ending
from training.fleet import jobs, tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, first, second in (
        ("prepare", "the plan", "folder of the jobs"),
        ("collect", "folder of the jobs", "folder for the runs"),
        ("tables", "folder of the jobs", "folder for the tables"),
    ):
        command = commands.add_parser(name)
        command.add_argument("source", type=Path, help=first)
        command.add_argument("target", type=Path, help=second)
    chosen = parser.parse_args(arguments)
    with ending("training.fleet", "the same command goes on where it was"):
        if chosen.command == "prepare":
            count = jobs.prepare(chosen.source, chosen.target)
            print(f"{count} runs: {chosen.target / 'jobs.json'}")
        elif chosen.command == "tables":
            print(f"{tables.write(chosen.source, chosen.target)} runs: {chosen.target}")
        else:
            for name, results in jobs.collect(chosen.source, chosen.target):
                errors = ", ".join(f"{key} {value:.2f} %" for key, value in results.items())
                print(f"{name}: {errors}".replace("_error", ""))


if __name__ == "__main__":
    main()
