"""A command: `python -m training.paper`; see `training/experiments/paper.py`."""

from training.experiments.paper import main

if __name__ == "__main__":
    main()
