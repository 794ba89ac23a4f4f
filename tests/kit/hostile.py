"""Peers that nobody wants: they don't read, they don't finish what they begin, they talk rubbish."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "protocols" / "corpus"


def connect(port: int, *, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", port))
    return sock


@contextmanager
def never_reads(port: int, path: str, *, requests: int = 64) -> Iterator[socket.socket]:
    """A viewer that pipelines requests for ``path`` and reads not one byte of the answers."""
    sock = connect(port, receive_buffer=4096)
    with sock:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        sock.setblocking(False)
        for _ in range(requests):
            try:
                sock.send(request)
            except (BlockingIOError, ConnectionError):
                break
        yield sock


@contextmanager
def half_open(port: int, count: int, first_bytes: bytes = b"") -> Iterator[list[socket.socket]]:
    """``count`` connections that say ``first_bytes`` and then nothing. The server may close any of them."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            try:
                sock = stack.enter_context(connect(port))
            except OSError:
                continue
            if first_bytes:
                try:
                    sock.send(first_bytes)
                except ConnectionError:
                    pass
            sockets.append(sock)
        yield sockets


def throw(port: int, data: bytes) -> None:
    """Send ``data`` to the port, listen to what comes for a moment, and go."""
    with connect(port) as sock:
        sock.settimeout(0.05)
        try:
            sock.sendall(data)
            while sock.recv(65536):
                pass
        except OSError:
            pass


def corpus(protocol: str) -> list[tuple[str, bytes]]:
    """Name and bytes of every committed sample of ``protocol``."""
    return [(path.name, path.read_bytes()) for path in sorted((CORPUS / protocol).rglob("*")) if path.is_file()]


def spoil(session: list[bytes], chance: random.Random) -> bytes:
    """A session with one to four wounds: a bit changed, a length at its limit, a piece cut or doubled."""
    messages = [bytearray(message) for message in session]
    for _ in range(chance.randrange(1, 5)):
        victim = messages[chance.randrange(1, len(messages))]
        if not victim:
            continue
        at = chance.randrange(min(len(victim), 64))
        match chance.randrange(4):
            case 0:
                victim[at] ^= 1 << chance.randrange(8)
            case 1:
                victim[4:7] = chance.choice((b"\x00\x00\x00", b"\xff\xff\xff", b"\x7f\xff\xff"))
            case 2:
                del victim[at:]
            case _:
                victim += victim[at:]
    return b"".join(messages)
