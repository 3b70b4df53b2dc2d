"""Trains many networks side by side on one CUDA GPU, in PyTorch: `python -m training.fleet`.

One network of width 16 leaves most of a GPU idle; a dozen together do not. `prepare` makes of runs
of `training.fit` a folder of jobs; `gpu` trains them with nothing but PyTorch and numpy, so that
the machine with the GPU needs no TensorFlow; `collect` makes of what it wrote the run folders that
`training.fit` would have made, with errors measured by Keras.

What learns is the same network: tests compare outputs, gradients and updates with Keras's.
"""
