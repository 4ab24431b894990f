"""What a registration that failed is: an error, never a pose."""

from XraySynthLib.errors import XraySynthError


class RegistrationError(XraySynthError):
    """No pose can be trusted: too few landmarks, a poor fit, or a refinement that went astray."""
