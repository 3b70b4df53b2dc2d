"""A command: `python -m training.sweep`; see `training/experiments/sweep.py`."""

from training.experiments.sweep import main

if __name__ == "__main__":
    main()
