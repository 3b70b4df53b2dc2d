"""What goes wrong in a conversion, in one line for the user."""

from larq_seresnet.errors import UserError


class ConversionError(UserError):
    """The model cannot be converted, or its file does not compute what the model computes."""
