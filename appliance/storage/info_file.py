"""The info file of recordings: one ``<file>`` for each finished one (catalogue 6.6). Written whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from appliance.storage.disk import Disk
from appliance.storage.entry import Entry

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<files>\n'
_TAIL = "</files>\n"


def append(disk: Disk, entry: Entry) -> None:
    """Add ``entry``, once. A file that can't be gone on with is kept under another name. Raises OSError, KilnError."""
    known = (disk.load(entry.info) or b"").decode(errors="replace")
    body, end, rest = known.rpartition("</files>")
    if known and (not end or rest.strip() or "<files>" not in body):
        disk.publish(entry.info, f"{entry.info}.damaged-{entry.id[:8]}")
        body = ""
    path = _cdata(entry.shown_path)
    if path in body:
        return
    lines = "".join(f"    <{name}>{value}</{name}>\n" for name, value in _fields(entry, path))
    disk.replace(entry.info, f"{body or _HEAD}  <file>\n{lines}  </file>\n{_TAIL}".encode())


def _fields(entry: Entry, path: str) -> Iterator[tuple[str, str]]:
    yield "transactionId", _text(entry.transaction)
    yield "id", _text(entry.task)
    yield "metadata", _text(entry.metadata)
    yield "vhost", _text(entry.vhost)
    yield "app", _text(entry.app)
    yield "stream", _text(entry.stream)
    yield "filePath", path
    yield "recordBytes", str(entry.bytes)
    yield "recordTime", str(entry.ms)
    yield "sequence", str(entry.sequence)
    yield "lastSequence", "true" if entry.last else "false"
    yield "createdTime", iso_time(entry.created)
    yield "startTime", iso_time(entry.started)
    yield "finishTime", iso_time(entry.finished)
    # Ours, only where there is something to tell.
    if entry.wall_offset_ms:
        yield "wallOffset", str(entry.wall_offset_ms)
    if entry.state == "recovered":
        yield "recovered", "true"
        yield "lostBytes", str(entry.lost_bytes)


def _text(value: str) -> str:
    return escape("".join(character for character in value if character >= " " or character in "\t\n"))


def _cdata(value: str) -> str:
    return "<![CDATA[" + value.replace("]]>", "]]]]><![CDATA[>") + "]]>"


def iso_time(wall: int) -> str:
    """Catalogue 3.11: local time with milliseconds and offset."""
    seconds, part = divmod(wall, 1_000_000_000)
    offset = time.localtime(seconds).tm_gmtoff
    local = datetime.fromtimestamp(seconds + offset, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    sign, minutes = ("-", -offset // 60) if offset < 0 else ("+", offset // 60)
    return f"{local}.{part // 1_000_000:03d}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
