"""A command: `python -m training.frontier`; see `training/experiments/frontier.py`."""

from training.experiments.frontier import main

if __name__ == "__main__":
    main()
