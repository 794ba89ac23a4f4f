"""Who a caller is and what that lets them do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each may do what those before it may: a viewer looks, an operator works with what exists, an admin changes it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As it is written: ``viewer``, ``operator``, ``admin``."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """Raises ValueError for any other word."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise ValueError(f"a role is admin, operator or viewer, not {word!r}") from None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who showed a token or came over the local socket. ``name`` is the token's ("" for the access token)."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return self.role >= role


ADMIN = Caller("", Role.ADMIN)
