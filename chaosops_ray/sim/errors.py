"""The error that a caller can fix: something that was named does not exist or cannot be read."""

from collections.abc import Iterable


class InputError(ValueError):
    """One line that names the thing and the remedy; the command line prints it and exits with 2."""


def unknown(kind: str, given: object, valid: Iterable[str]) -> InputError:
    """Return an error that lists the valid names."""
    shown = repr(given)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return InputError(f"unknown {kind} {shown}; valid: {', '.join(valid)}")
