"""The exceptions of `larq_seresnet.edge`; each message is one line that a user can act on."""


class ModelError(ValueError):
    """A `.tflite` file is damaged, or asks for something that cannot be run."""


class RuntimeMissingError(ImportError):
    """No TFLite runtime, or not the native delegate that a file's operators need."""
