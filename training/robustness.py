"""A command: `python -m training.robustness`; see `training/experiments/robustness.py`."""

from training.experiments.robustness import main

if __name__ == "__main__":
    main()
