"""The one error that users are meant to read."""


class UserError(ValueError):
    """Bad input, said in one sentence: what was given, what is allowed, what to do.

    The command line prints the sentence and leaves with exit code 2.
    """
