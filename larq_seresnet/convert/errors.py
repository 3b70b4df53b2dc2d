"""What goes wrong in a conversion, in one line for the user."""


class ConversionError(ValueError):
    """The model cannot be converted, or its file does not compute what the model computes."""
