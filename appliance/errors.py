"""The family of errors that a user, an operator or a peer is told about.

Each carries the HTTP status that an API answer takes and, where there is one, a hint that says what to do.
"""

from __future__ import annotations


class KilnError(Exception):
    """Root of all errors that Kiln raises on purpose.

    ``status`` is the HTTP status an API answer takes, ``hint`` a sentence for the operator ("" when there is none).
    """

    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RemoteProtocolError(KilnError):
    """What a peer sent breaks its protocol. Parsers raise nothing else, whatever the bytes are."""

    status = 400


class ConfigError(KilnError):
    """A setting is wrong. The message names its path, and file and line where it came from a file."""

    status = 400


class BadRequest(KilnError):
    """A request that can't be understood or is not allowed in this form."""

    status = 400


class Forbidden(KilnError):
    """The thing exists and may not be touched this way."""

    status = 403


class NotFound(KilnError):
    """There is no such thing."""

    status = 404


class NameTaken(KilnError):
    """The name is in use already."""

    status = 409


class NotBuilt(KilnError):
    """The engine under this action is not there in this version or on this machine."""

    status = 501


class Unavailable(KilnError):
    """The box can't do it now: overloaded, blocked too long, or the thing under it is down."""

    status = 503


class WorkerFault(KilnError):
    """A worker process crashed, hung, or could not do what it was configured for."""

    status = 503
