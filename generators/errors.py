"""What is refused: each message is one sentence that names what was given, what was expected and what to do.

The command line prints the sentence and ends with status 2.
"""


class Refusal(ValueError):
    """Something that was asked for cannot be done."""


class UsageError(Refusal):
    """An option, or options together, ask for what cannot be done."""


class RunError(Refusal):
    """A run cannot start or go on as asked."""
