"""Errors that a user can mend. Programming errors stay `TypeError` and `ValueError`."""


class XraySynthError(Exception):
    """Base of the errors whose message is meant for the user: one sentence, what to do about it."""


class UnreadableFileError(XraySynthError):
    """A file is missing, truncated, of the wrong kind or holds values that cannot be meant."""


class MissingDependencyError(XraySynthError):
    """An optional package that the request needs is not installed."""


class EngineError(XraySynthError):
    """A projection engine cannot run here, or failed its self-test."""


class UsageError(XraySynthError):
    """What was asked for contradicts itself; the command line ends with status 2."""
