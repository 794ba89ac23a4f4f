"""Secrets in settings: told to who may change them, hidden from everybody else (DECISIONS)."""

from __future__ import annotations

from typing import Any

from appliance.access.roles import Role

HIDDEN = "***"
_SECRET = frozenset({"secretKey", "auth", "publishKey", "streamKey", "accessToken", "credential", "userKey"})


def shown_to(role: Role, settings: Any) -> Any:
    """``settings`` as a caller of that role may see them."""
    return settings if role is Role.ADMIN else _hidden(settings)


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if key in _SECRET and each else _hidden(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_hidden(each) for each in value]
    return value
