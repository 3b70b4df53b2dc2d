"""A command: `python -m training.arms`; see `training/experiments/arms.py`."""

from training.experiments.arms import main

if __name__ == "__main__":
    main()
