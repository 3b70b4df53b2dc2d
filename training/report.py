"""A command: `python -m training.report`; see `training/experiments/report`."""

from training.experiments.report.__main__ import main

if __name__ == "__main__":
    main()
