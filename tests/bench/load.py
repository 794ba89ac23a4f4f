"""Hundreds of viewers in one process: each parks on the live playlist and takes the newest part, again and again.

    python -m tests.bench.load '{"port": 3333, "path": "/app/cam1/chunklist….m3u8", "viewers": 300, "seconds": 10,
                                 "parts": true, "tls": false, "warm_up": 3, "core": 1}'

prints one JSON object. A reply is late by the time between the first viewer's release and this viewer's last byte.
Over plain TCP the kernel throws the parts away unread (MSG_TRUNC), so that one core is enough for the viewers.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import hpack

from tests.kit import m3u8

Position = tuple[int, int]
SCRATCH = memoryview(bytearray(1 << 20))


@dataclass(slots=True)
class Round:
    """One state of the playlist, as all viewers wait for it."""

    released: float
    part: str
    following: Position


@dataclass
class Edge:
    """What the viewers know together: the first one to get a playlist reads it for all."""

    base: str
    rounds: dict[Position, Round] = field(default_factory=dict)

    def learn(self, wanted: Position, body: bytes, now: float) -> Round:
        known = self.rounds.get(wanted)
        if known is None:
            playlist = m3u8.parse_media(self.base, body.decode())
            last = playlist.segments[-1]
            address = urlsplit(last.parts[-1].uri if last.parts else last.uri)
            part = address.path + (f"?{address.query}" if address.query else "")
            known = self.rounds[wanted] = Round(now, part, playlist.edge)
        return known


@dataclass
class Tally:
    """Lateness in seconds; only replies after ``since`` count."""

    since: float = 0.0
    playlists: list[float] = field(default_factory=list)
    parts: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    part_bytes: int = 0

    def playlist(self, now: float, released: float) -> None:
        if now >= self.since:
            self.playlists.append(now - released)

    def part(self, now: float, released: float, size: int) -> None:
        if now >= self.since:
            self.parts.append(now - released)
            self.part_bytes += size


class Transport(Protocol):
    """One connection: ``get`` asks for a path, ``read`` gives (status, body, size) once a reply is complete."""

    def get(self, path: str, *, keep: bool) -> None: ...

    def read(self) -> tuple[int, bytes, int] | None: ...


class Http1:
    """Keep-alive over plain TCP. The body of a reply that is not kept is never copied."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._head = b""
        self._left = -1
        self._keep = True
        self._body = bytearray()
        self._status = 0
        self._size = 0

    def get(self, path: str, *, keep: bool) -> None:
        self._keep, self._head, self._left = keep, b"", -1
        self._body = bytearray()
        self._sock.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def read(self) -> tuple[int, bytes, int] | None:
        try:
            while self._left != 0:
                if self._left < 0:
                    if not self._read_head():
                        return None
                elif self._keep:
                    count = self._sock.recv_into(SCRATCH, self._left)
                    self._body += SCRATCH[:count]
                    self._took(count)
                else:
                    self._took(self._sock.recv_into(SCRATCH, min(self._left, len(SCRATCH)), socket.MSG_TRUNC))
        except BlockingIOError:
            return None
        self._left = -1
        return self._status, bytes(self._body), self._size

    def _took(self, count: int) -> None:
        if count == 0:
            raise ConnectionError("closed in the middle of a reply")
        self._left -= count

    def _read_head(self) -> bool:
        """Take the head alone off the socket; whether it is complete."""
        count = self._sock.recv_into(SCRATCH, 4096, socket.MSG_PEEK)
        if count == 0:
            raise ConnectionError("closed between replies")
        end = bytes(SCRATCH[:count]).find(b"\r\n\r\n")
        if end < 0:
            return False
        self._sock.recv_into(SCRATCH, end + 4)
        head = bytes(SCRATCH[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ConnectionError(f"a reply without a length: {head!r}")
        self._status = int(head[9:12])
        self._size = self._left = int(head[at + 15 :].split(b"\r\n", 1)[0])
        return True


_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WIDE = 0x7FFFFFFF


class Http2:
    """One stream at a time over TLS, with windows so wide that none ever closes."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._stream = -1
        self._keep = True
        self._head = bytearray()
        self._payload = bytearray()
        self._left = 0
        self._frame = (0, 0)
        self._status = 0
        self._body = bytearray()
        self._size = 0
        self._done = False
        settings = b"\x00\x02\x00\x00\x00\x00" + b"\x00\x04" + _WIDE.to_bytes(4, "big")
        self._send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + self._pack(_SETTINGS, 0, 0, settings)
            + self._pack(_WINDOW, 0, 0, (_WIDE - 65535).to_bytes(4, "big"))
        )

    @staticmethod
    def _pack(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def _send(self, data: bytes) -> None:
        self._sock.send(data)

    def get(self, path: str, *, keep: bool) -> None:
        self._stream += 2
        self._keep, self._done, self._size, self._body = keep, False, 0, bytearray()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "127.0.0.1"), (":path", path)]
        block = self._encoder.encode(fields)
        self._send(self._pack(_HEADERS, _END_HEADERS | _END_STREAM, self._stream, block))

    def read(self) -> tuple[int, bytes, int] | None:
        try:
            while not self._done:
                count = self._sock.recv_into(SCRATCH)
                if count == 0:
                    raise ConnectionError("closed")
                self._feed(SCRATCH[:count])
        except ssl.SSLWantReadError:
            return None
        return self._status, bytes(self._body), self._size

    def _feed(self, data: memoryview) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left == 0:
                take = min(9 - len(self._head), end - at)
                self._head += data[at : at + take]
                at += take
                if len(self._head) < 9:
                    return
                self._left = int.from_bytes(self._head[:3], "big")
                self._frame = (self._head[3], self._head[4])
                self._head.clear()
                if self._left:
                    continue
            else:
                take = min(self._left, end - at)
                if self._frame[0] != _DATA:
                    self._payload += data[at : at + take]
                else:
                    self._size += take
                    if self._keep:
                        self._body += data[at : at + take]
                self._left -= take
                at += take
                if self._left:
                    return
            self._frame_done()

    def _frame_done(self) -> None:
        kind, flags = self._frame
        payload, self._payload = bytes(self._payload), bytearray()
        if kind == _HEADERS:
            self._status = int(dict(self._decoder.decode(payload, raw=True))[b":status"])
        elif kind == _SETTINGS and not flags & _ACK:
            self._send(self._pack(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._send(self._pack(_PING, _ACK, 0, payload))
        elif kind in (_RST, _GOAWAY):
            raise ConnectionError(f"frame {kind}: {payload!r}")
        if kind in (_HEADERS, _DATA) and flags & _END_STREAM:
            self._done = True


class Viewer:
    """Playlist, part, playlist, part."""

    def __init__(self, transport: Transport, edge: Edge, tally: Tally, path: str, parts: bool, start: Position) -> None:
        self._transport = transport
        self._edge = edge
        self._tally = tally
        self._path = path
        self._parts = parts
        self._wanted = start
        self._round: Round | None = None
        self._ask()

    def _ask(self) -> None:
        self._round = None
        joint = "&" if "?" in self._path else "?"
        msn, part = self._wanted
        self._transport.get(f"{self._path}{joint}_HLS_msn={msn}&_HLS_part={part}", keep=True)

    def on_readable(self) -> None:
        while (reply := self._transport.read()) is not None:
            now = time.monotonic()
            status, body, size = reply
            if status != 200:
                raise ConnectionError(f"status {status} for {self._wanted}: {body[:100]!r}")
            if self._round is not None:
                self._tally.part(now, self._round.released, size)
                self._ask()
                continue
            found = self._edge.learn(self._wanted, body, now)
            self._tally.playlist(now, found.released)
            self._wanted = found.following
            if self._parts:
                self._round = found
                self._transport.get(found.part, keep=False)
            else:
                self._ask()


def _connect(job: dict[str, Any], context: ssl.SSLContext | None) -> tuple[socket.socket, Transport]:
    sock = socket.create_connection(("127.0.0.1", job["port"]), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    if context is None:
        sock.setblocking(False)
        return sock, Http1(sock)
    secure = context.wrap_socket(sock, server_hostname="127.0.0.1")
    if secure.selected_alpn_protocol() != "h2":
        raise ConnectionError("the server does not speak HTTP/2")
    secure.setblocking(False)
    return secure, Http2(secure)


def _first(job: dict[str, Any], context: ssl.SSLContext | None) -> Position:
    """Where the live edge is now."""
    sock, transport = _connect(job, context)
    with sock:
        transport.get(job["path"], keep=True)
        sock_ready = select.poll()
        sock_ready.register(sock, select.POLLIN)
        while (reply := transport.read()) is None:
            sock_ready.poll(1000)
    if reply[0] != 200:
        raise ConnectionError(f"status {reply[0]} for {job['path']}")
    return m3u8.parse_media("http://127.0.0.1" + job["path"], reply[1].decode()).edge


def run(job: dict[str, Any]) -> dict[str, Any]:
    context = None
    if job["tls"]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    edge = Edge("http://127.0.0.1" + job["path"])
    tally = Tally()
    start = _first(job, context)
    poll = select.epoll()
    viewers: dict[int, tuple[socket.socket, Viewer]] = {}
    for _ in range(job["viewers"]):
        sock, transport = _connect(job, context)
        viewer = Viewer(transport, edge, tally, job["path"], job["parts"], start)
        viewers[sock.fileno()] = (sock, viewer)
        poll.register(sock.fileno(), select.EPOLLIN)
    tally.since = time.monotonic() + job["warm_up"]
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    end = tally.since + job["seconds"]
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(0.2, 1024):
            sock, viewer = viewers[descriptor]
            try:
                viewer.on_readable()
            except (OSError, ConnectionError) as error:
                tally.errors.append(str(error))
                poll.unregister(descriptor)
                sock.close()
    for sock, _ in viewers.values():
        sock.close()
    used = os.times()
    return {
        "rounds": len(edge.rounds),
        "playlists": summary(tally.playlists),
        "parts": summary(tally.parts),
        "part_bytes": tally.part_bytes / max(1, len(tally.parts)),
        "errors": tally.errors[:5],
        "failed": len(tally.errors),
        "own_cpu": used.user + used.system,
        "lasted": job["warm_up"] + job["seconds"],
    }


def summary(values: list[float]) -> dict[str, float]:
    """Count, and median, 99th of a hundred and largest in milliseconds."""
    if not values:
        return {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "count": len(ordered),
        "p50": ordered[len(ordered) // 2] * 1000,
        "p99": p99 * 1000,
        "max": ordered[-1] * 1000,
    }


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    if wanted.get("core") is not None:
        os.sched_setaffinity(0, {wanted["core"]})
    print(json.dumps(run(wanted)))
