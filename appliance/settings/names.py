"""What names may look like, and where paths from outside may lead (the one place that says so)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from appliance.errors import BadRequest, ConfigError

NameKind = Literal[
    "virtual host", "application", "stream", "playlist file", "profile", "playlist", "encode", "rendition", "label",
    "program", "channel", "token", "certificate",
]  # fmt: skip

_STRICT = frozenset({"virtual host", "application", "stream", "playlist file", "channel", "token", "certificate"})
_GRAMMAR = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_MACRO = re.compile(r"\$\{[A-Za-z0-9_:]+\}")


def check_name(kind: NameKind, value: str, *, macros: bool = False) -> str:
    """``value``, when it may name a thing of this kind.

    Virtual hosts, applications, streams, channels, playlist files: 1 to 128 of ``A-Za-z0-9_.-``, no leading dot.
    All else: any text of 1 to 128 characters without control characters. With ``macros``, ``${…}`` may stand in it.
    Raises ConfigError.
    """
    bare = _MACRO.sub("x", value) if macros else value
    if kind in _STRICT:
        if not _GRAMMAR.fullmatch(bare):
            shown = value if len(value) <= 128 else value[:128] + "…"
            raise ConfigError(
                f"Invalid {kind} name: [{shown}]",
                hint='Use 1 to 128 letters, digits, "_", "." and "-", and no "." in front.',
            )
    elif not _LABEL.fullmatch(bare):
        raise ConfigError(
            f"Invalid {kind} name: [{value[:128]}]", hint="Use 1 to 128 characters and no control characters."
        )
    return value


def media_path(root: Path, text: str) -> Path:
    """The real path of one that came from outside, always inside ``root``.

    An absolute path is taken from the root (``/tmp/x`` is ``<root>/tmp/x``), one already below it stays.
    Symbolic links are not followed here: whoever opens the file must open it beneath the root.
    Raises BadRequest for ``..``, an empty path and a NUL.
    """
    if not text or "\0" in text:
        raise BadRequest("The path is empty or has a NUL in it")
    path = Path(text)
    if ".." in path.parts:
        raise BadRequest(f"A path may not hold '..': {text}")
    if path.is_absolute():
        path = path.relative_to(root) if path.is_relative_to(root) else path.relative_to(path.anchor)
    return root / path
