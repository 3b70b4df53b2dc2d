"""A command: `python -m training.export`; see `training/publishing/export.py`."""

from training.publishing.export import main

if __name__ == "__main__":
    main()
