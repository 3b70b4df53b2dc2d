"""A command: `python -m training.export`; see `training/publishing/export.py`."""

import sys

from training.publishing.export import main

if __name__ == "__main__":
    sys.exit(main())
