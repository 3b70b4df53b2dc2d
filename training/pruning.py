"""A command: `python -m training.pruning`; see `training/experiments/pruning.py`."""

from training.experiments.pruning import main

if __name__ == "__main__":
    main()
