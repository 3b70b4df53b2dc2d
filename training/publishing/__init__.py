"""From finished runs to the package's weights and the files in `tflite_models/`."""
