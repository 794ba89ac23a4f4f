"""``${env:NAME:default}`` and ``${ome:Home}``, ``${ome:CurrentPath}`` in the text of a setting (catalogue 4.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from appliance.errors import ConfigError

_MACRO = re.compile(r"\$\{(env|ome):([^:}]*)(?::([^}]*))?\}")


def expand(text: str, environment: Mapping[str, str], folders: Mapping[str, str]) -> str:
    """Put the values in; all other ``${…}`` stay. ``folders`` holds Home and CurrentPath. Raises ConfigError."""
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        kind, name, default = match.groups()
        known = environment if kind == "env" else folders
        if name in known:
            return known[name]
        if default is not None:
            return str(default)
        what = "The environment variable" if kind == "env" else "The folder"
        raise ConfigError(f"{what} {name} is not set", hint=f"Set it, or write ${{{kind}:{name}:<default>}}.")

    return _MACRO.sub(value, text)
