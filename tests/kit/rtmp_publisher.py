"""An RTMP publisher of our own, for what ffmpeg can't do: it knows to the microsecond when it sent which frame.

It pauses, stops in the middle, breaks off, and uses the server's words of refusal.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import trio

_CHUNK = 65536
_AUDIO, _VIDEO, _DATA, _COMMAND = 8, 9, 18, 20
_REFUSALS = (b"NetStream.Publish.BadName", b"NetStream.Publish.Rejected", b"NetConnection.Connect.Rejected")


def _amf(*values: object) -> bytes:
    out = bytearray()
    for value in values:
        match value:
            case None:
                out += b"\x05"
            case bool():
                out += b"\x01" + bytes([value])
            case int() | float():
                out += b"\x00" + struct.pack(">d", value)
            case str():
                out += b"\x02" + struct.pack(">H", len(value)) + value.encode()
            case dict():
                out += b"\x03"
                for key, member in value.items():
                    out += struct.pack(">H", len(key)) + key.encode() + _amf(member)
                out += b"\x00\x00\x09"
            case _:
                raise TypeError(f"no AMF0 for {type(value)}")
    return bytes(out)


def message(kind: int, body: bytes, *, ms: int = 0, stream: int = 0, chunk_stream: int = 3) -> bytes:
    """One RTMP message with a full header, in chunks of 65536 bytes."""
    stamp = min(ms, 0xFFFFFF)
    extended = struct.pack(">I", ms) if stamp == 0xFFFFFF else b""
    out = bytearray([chunk_stream])
    out += stamp.to_bytes(3, "big") + len(body).to_bytes(3, "big") + bytes([kind]) + struct.pack("<I", stream)
    out += extended + body[:_CHUNK]
    for at in range(_CHUNK, len(body), _CHUNK):
        out += bytes([0xC0 | chunk_stream]) + extended + body[at : at + _CHUNK]
    return bytes(out)


def spoken(media: Media, app: str, stream: str, *, seconds: float = 1) -> list[bytes]:
    """What a publisher says from its first byte on, message by message, whatever the server answers."""
    said = [
        b"\x03" + bytes(8) + os.urandom(1528) + os.urandom(1536),
        message(1, struct.pack(">I", _CHUNK), chunk_stream=2),
        message(_COMMAND, _amf("connect", 1, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}"})),
        message(_COMMAND, _amf("createStream", 2, None)),
        message(_COMMAND, _amf("publish", 3, None, stream, "live"), stream=1),
    ]
    early = [tag for tag in media.tags if tag.ms < seconds * 1000]
    return said + [message(tag.type, tag.body, ms=tag.ms, stream=1) for tag in (*media.headers, *early)]


@dataclass(frozen=True, slots=True)
class Tag:
    """One FLV tag: ``type`` 8 or 9, ``ms`` its decoding time."""

    type: int
    ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Media:
    """Sequence headers and tags of a file with H.264 and AAC, in the order in which they are sent."""

    headers: tuple[Tag, ...]
    tags: tuple[Tag, ...]

    @classmethod
    def of_file(cls, path: Path) -> Media:
        headers: list[Tag] = []
        tags: list[Tag] = []
        with av.open(str(path), mode="r") as container:
            for stream in container.streams:
                extra = stream.codec_context.extradata or b""
                if stream.type == "video":
                    headers.append(Tag(_VIDEO, 0, b"\x17\x00\x00\x00\x00" + extra))
                elif stream.type == "audio":
                    headers.append(Tag(_AUDIO, 0, b"\xaf\x00" + extra))
            for packet in container.demux():
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                dts, pts = (round(time * packet.time_base * 1000) for time in (packet.dts, packet.pts))
                if packet.stream.type == "video":
                    head = b"\x17\x01" if packet.is_keyframe else b"\x27\x01"
                    tags.append(Tag(_VIDEO, dts, head + (pts - dts).to_bytes(3, "big") + bytes(packet)))
                else:
                    tags.append(Tag(_AUDIO, dts, b"\xaf\x01" + bytes(packet)))
        tags.sort(key=lambda tag: tag.ms)
        first = min(0, tags[0].ms)
        return cls(tuple(headers), tuple(Tag(tag.type, tag.ms - first, tag.body) for tag in tags))

    @property
    def duration_ms(self) -> int:
        """When the next round begins."""
        video = [tag.ms for tag in self.tags if tag.type == _VIDEO]
        return video[-1] + (video[-1] - video[0]) // (len(video) - 1)

    def rounds(self, start_ms: int = 0) -> Iterator[Tag]:
        """The tags again and again, their times running on."""
        while True:
            for tag in self.tags:
                yield Tag(tag.type, tag.ms + start_ms, tag.body)
            start_ms += self.duration_ms


class Refused(Exception):
    """The server said no, or hung up. The message is its own."""


@dataclass
class RtmpPublisher:
    """Publishes ``media`` as ``stream`` in real time. ``sent`` keeps when each video tag went out, by trio's clock."""

    port: int
    stream: str
    media: Media
    app: str = "app"
    sent: list[tuple[int, float]] = field(default_factory=list)
    published_at: float = 0.0
    _tcp: trio.SocketStream | None = None
    _position: int = 0

    async def __aenter__(self) -> Self:
        self._tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.move_on_after(1) as scope:
            scope.shield = True
            await self._wire.aclose()

    @property
    def _wire(self) -> trio.SocketStream:
        if self._tcp is None:
            raise RuntimeError("not connected")
        return self._tcp

    def break_off(self) -> None:
        """A TCP reset, as when a cable is cut and the peer's system notices."""
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.socket.close()

    async def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self._wire.receive_some(size - len(data))
            if not more:
                raise Refused("the server closed the connection")
            data += more
        return data

    async def _send(self, kind: int, body: bytes, *, ms: int = 0, stream: int = 0, chunk_stream: int = 3) -> None:
        await self._wire.send_all(message(kind, body, ms=ms, stream=stream, chunk_stream=chunk_stream))

    async def _expect(self, word: bytes) -> None:
        """Read until the server's bytes hold ``word``; its refusals end it."""
        heard = b""
        with trio.fail_after(5):
            while word not in heard:
                more = await self._wire.receive_some(4096)
                if not more:
                    raise Refused(f"closed before {word!r}")
                heard += more
                for refusal in _REFUSALS:
                    if refusal in heard:
                        raise Refused(refusal.decode())

    async def publish(self) -> None:
        """Handshake and commands up to the server's agreement, then the sequence headers. Raises Refused."""
        greeting = os.urandom(1528)
        await self._wire.send_all(b"\x03" + bytes(8) + greeting)
        answer = await self._read(1 + 1536 + 1536)
        await self._wire.send_all(answer[1:1537])
        await self._send(1, struct.pack(">I", _CHUNK), chunk_stream=2)
        url = f"rtmp://127.0.0.1:{self.port}/{self.app}"
        await self._send(_COMMAND, _amf("connect", 1, {"app": self.app, "type": "nonprivate", "tcUrl": url}))
        await self._expect(b"NetConnection.Connect.Success")
        await self._send(_COMMAND, _amf("createStream", 2, None))
        await self._expect(b"_result")
        await self._send(_COMMAND, _amf("publish", 3, None, self.stream, "live"), stream=1)
        await self._expect(b"NetStream.Publish.Start")
        self.published_at = trio.current_time()
        for tag in self.media.headers:
            await self._send(tag.type, tag.body, stream=1, chunk_stream=4 if tag.type == _VIDEO else 5)

    async def run(self, seconds: float, *, start_ms: int = 0, skip: int = 0) -> None:
        """Send ``seconds`` of the media, each tag at its time. Raises Refused when the server hangs up."""
        begin = trio.current_time()
        base: int | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            for index, tag in enumerate(self.media.rounds(start_ms)):
                if index < skip:
                    continue
                base = tag.ms if base is None else base
                if tag.ms - base >= seconds * 1000:
                    break
                await trio.sleep_until(begin + (tag.ms - base) / 1000)
                if tag.type == _VIDEO:
                    self.sent.append((tag.ms, trio.current_time()))
                lane = 4 if tag.type == _VIDEO else 5
                try:
                    await self._send(tag.type, tag.body, ms=tag.ms, stream=1, chunk_stream=lane)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise Refused("the server hung up") from error
                self._position = index + 1
            nursery.cancel_scope.cancel()

    async def say(self, name: str, *values: object, ms: int = 0) -> None:
        """An AMF data message, between two runs."""
        await self._send(_DATA, _amf(name, *values), ms=ms, stream=1, chunk_stream=6)

    @property
    def position(self) -> int:
        """How many tags have gone out: what the next run skips."""
        return self._position

    async def _listen(self) -> None:
        """Acknowledgements and the like: read and forgotten, so that the server never waits for us."""
        try:
            while await self._wire.receive_some(4096):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
