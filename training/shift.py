"""A command: `python -m training.shift`; see `training/experiments/shift.py`."""

from training.experiments.shift import main

if __name__ == "__main__":
    main()
