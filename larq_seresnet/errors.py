"""What is the user's to mend."""


class UserError(ValueError):
    """A mistake of the user's, or of the machine's: one line that says what to do."""


class ConversionError(UserError):
    """A model cannot be converted, or its file does not compute what the model computes."""
