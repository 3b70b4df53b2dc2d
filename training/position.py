"""A command: `python -m training.position`; see `training/experiments/position.py`."""

from training.experiments.position import main

if __name__ == "__main__":
    main()
