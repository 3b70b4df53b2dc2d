"""A command: `python -m training.curves`; see `training/trainer/curves.py`."""

from training.trainer.curves import main

if __name__ == "__main__":
    main()
