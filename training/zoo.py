"""A command: `python -m training.zoo`; see `training/publishing/zoo.py`."""

from training.publishing.zoo import main

if __name__ == "__main__":
    main()
