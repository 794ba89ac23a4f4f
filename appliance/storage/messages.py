"""What the engine and a disk worker say to each other: JSON and raw bytes behind their two lengths.

Every message to the worker is answered by one ``Done`` or ``Found`` with its number. Silence with an answer due is a
disk that hangs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from appliance.errors import RemoteProtocolError
from appliance.storage.entry import Entry

_LENGTHS = struct.Struct(">II")
MAX_MESSAGE = 64 << 20


class Message(msgspec.Struct, tag=True, kw_only=True):
    """``number`` joins an answer to what it answers (0: unasked)."""

    number: int = 0


class Open(Message):
    """Make a file; the bytes behind are its head. ``number`` is its handle in what follows."""

    entry: Entry


class Write(Message):
    """One whole fragment. ``elapsed_ms`` of the recording so far."""

    file: int
    elapsed_ms: int


class Finish(Message):
    """Make the file whole under its final name. ``wall`` ns since 1970; ``last``: the task goes on with no other."""

    file: int
    wall: int
    last: bool
    wall_offset_ms: int


class Rule(msgspec.Struct):
    """What an application may keep: ``max_age`` s, ``max_size`` bytes (0: no limit)."""

    vhost: str
    app: str
    max_age: int = 0
    max_size: int = 0


class Limits(Message):
    """``reserve`` bytes stay free, oldest recordings go first (0: none goes for that)."""

    rules: list[Rule]
    reserve: int


class Mend(Message):
    """Repair what a crash left, a file at a time."""


class Ask(Message):
    """``what``: list, keep, unkeep, delete."""

    what: str
    id: str = ""


class Ready(Message):
    pid: int


class Done(Message):
    """``error`` "" or what the disk said; the file is closed then. ``entry`` of a file that is whole."""

    error: str = ""
    size: int = 0
    entry: Entry | None = None


class Found(Message):
    """The answer to Ask."""

    entries: list[Entry]
    error: str = ""


class Recovered(Message):
    """A file that a crash left has been made whole."""

    entry: Entry


class Lost(Message):
    """Of a file that a crash left nothing could be saved."""

    entry: Entry
    reason: str


class Evicted(Message):
    """An old recording made room."""

    entry: Entry
    reason: str


class Usage(Message):
    """Bytes. ``recordings`` and ``count`` of whole files, ``kept`` bytes of those marked keep; ``error`` "" or what
    the disk said when it was asked; ``damaged``: files that wait for their repair."""

    free: int = 0
    total: int = 0
    recordings: int = 0
    kept: int = 0
    count: int = 0
    damaged: int = 0
    error: str = ""


ToWorker = Open | Write | Finish | Limits | Mend | Ask
FromWorker = Ready | Done | Found | Recovered | Lost | Evicted | Usage
_encoder = msgspec.json.Encoder()


def pack(message: ToWorker | FromWorker, size: int = 0) -> bytes:
    """``message``, to be followed by ``size`` raw bytes."""
    body = _encoder.encode(message)
    return _LENGTHS.pack(len(body), size) + body


T = TypeVar("T")


class Receiver(Generic[T]):
    """Splits what comes from the other side. Raises RemoteProtocolError."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> Iterator[tuple[T, bytes]]:
        self._buffer += data
        while len(self._buffer) >= _LENGTHS.size:
            body, blob = _LENGTHS.unpack_from(self._buffer)
            end = _LENGTHS.size + body + blob
            if end > MAX_MESSAGE:
                raise RemoteProtocolError("a message to or from the disk worker is too long")
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                text, raw = bytes(view[8 : 8 + body]), bytes(view[8 + body : end])
            del self._buffer[:end]
            try:
                yield self._decoder.decode(text), raw
            except msgspec.DecodeError as error:
                raise RemoteProtocolError(f"a message to or from the disk worker: {error}") from None
