"""What travels on an RTSP connection: responses, requests, and frames of RTP between them (RFC 2326 section 10.12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from appliance.errors import RemoteProtocolError

LARGEST_HEAD = 16 * 1024
LARGEST_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` by lower-case name, repeated ones joined by a line feed."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """The server asks us something; it wants an answer with the same CSeq."""

    method: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """An RTP or RTCP packet on its channel."""

    channel: int
    data: bytes


Message = Response | ServerRequest | Interleaved


class MessageReader:
    """Cuts the bytes of a connection into messages. Buffers at most one message of bounded size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> Iterator[Message]:
        """Messages that are whole now. Raises RemoteProtocolError, after which the connection is of no use."""
        self._buffer += data
        while True:
            message, used = self._next()
            if message is not None:
                yield message
            if not used:
                return
            del self._buffer[:used]

    def _next(self) -> tuple[Message | None, int]:
        buffer = self._buffer
        if not buffer:
            return None, 0
        if buffer[0] == 0x24:
            return self._frame()
        if buffer[0] in b"\r\n":
            return None, 1
        end = buffer.find(b"\r\n\r\n", 0, LARGEST_HEAD + 4)
        if end < 0:
            if len(buffer) > LARGEST_HEAD:
                raise RemoteProtocolError("RTSP head too long")
            # A head must look like one from its first bytes on, or garbage would be waited for.
            if not b"RTSP/".startswith(bytes(buffer[:5])) and not bytes(buffer[:1]).isalpha():
                raise RemoteProtocolError("not RTSP")
            return None, 0
        lines = bytes(buffer[:end]).decode("utf-8", "replace").split("\r\n")
        headers = _headers(lines[1:])
        length = headers.get("content-length", "0").strip()
        if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY:
            raise RemoteProtocolError(f"RTSP body of {length[:16]} bytes")
        used = end + 4 + int(length)
        if len(buffer) < used:
            return None, 0
        return _message(lines[0], headers, bytes(buffer[end + 4 : used])), used

    def _frame(self) -> tuple[Message | None, int]:
        buffer = self._buffer
        if len(buffer) < 4:
            return None, 0
        used = 4 + (buffer[2] << 8 | buffer[3])
        if len(buffer) < used:
            return None, 0
        return Interleaved(buffer[1], bytes(buffer[4:used])), used


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator:
            raise RemoteProtocolError(f"broken RTSP header: {line[:80]}")
        key = name.strip().lower()
        text = value.strip()
        headers[key] = f"{headers[key]}\n{text}" if key in headers else text
    return headers


def _message(first: str, headers: Mapping[str, str], body: bytes) -> Message:
    parts = first.split(" ", 2)
    if parts[0].startswith("RTSP/"):
        if len(parts) < 2 or not (parts[1].isascii() and parts[1].isdecimal() and len(parts[1]) == 3):
            raise RemoteProtocolError(f"broken RTSP status line: {first[:80]}")
        return Response(int(parts[1]), parts[2] if len(parts) > 2 else "", headers, body)
    if len(parts) == 3 and parts[2].startswith("RTSP/"):
        return ServerRequest(parts[0], headers)
    raise RemoteProtocolError(f"not RTSP: {first[:80]}")
