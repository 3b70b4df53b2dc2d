"""A command: `python -m training.fit`; see `training/trainer/fit.py`."""

from training.trainer.fit import main

if __name__ == "__main__":
    main()
