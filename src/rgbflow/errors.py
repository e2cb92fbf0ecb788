"""The one error for wrong input: something the user gave cannot be used."""


class InputError(ValueError):
    """A file, an argument or a setting cannot be used.

    The message is one line: the argument, its value, the rule and the remedy. The command line prints it and exits with
    1. It is never raised for a bug of the program itself.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
