"""A command: `python -m training.zoo`; see `training/publishing/zoo.py`."""

import sys

from training.publishing.zoo import main

if __name__ == "__main__":
    sys.exit(main())
