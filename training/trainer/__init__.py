"""The trainer: what `python -m training.fit` needs."""
