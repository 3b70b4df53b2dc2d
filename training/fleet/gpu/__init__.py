"""Trains a folder of jobs on one GPU; needs PyTorch and numpy, and nothing of TensorFlow.

A package of its own, so that it runs where these alone are installed:
`cd training/fleet && python -m gpu FOLDER`.
"""
