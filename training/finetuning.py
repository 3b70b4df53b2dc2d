"""A command: `python -m training.finetuning`; see `training/experiments/finetuning.py`."""

from training.experiments.finetuning import main

if __name__ == "__main__":
    main()
