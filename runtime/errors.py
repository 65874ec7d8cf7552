"""The errors that reach a user: each states what was expected, what was found and how to fix it."""


class RoadworthyError(Exception):
    """A failure that a user can act on. The command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class BadInput(RoadworthyError):
    """The user gave something unusable (a path, an image, an option, a model); nothing was written. Exit code 2."""

    exit_code = 2


class MissingExtra(BadInput):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the missing `package`, the pip `extra` that installs it, and what it is needed for."""
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed: pip install 'roadworthy[{extra}]'")
