"""sockaddr_in and sockaddr_in6 as libsrt takes and gives them."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

SIZE: Final = 28
# BSD and macOS put a length byte in front of the family.
_HAS_LENGTH: Final = sys.platform == "darwin"


def pack(host: str, port: int) -> bytes:
    """``host`` is an IPv4 or IPv6 address. Raises OSError for anything else."""
    if ":" in host:
        body = struct.pack(">HI16sI", port, 0, socket.inet_pton(socket.AF_INET6, host), 0)
        return _head(socket.AF_INET6, 28) + body
    return _head(socket.AF_INET, 16) + struct.pack(">H4s8x", port, socket.inet_pton(socket.AF_INET, host))


def unpack(data: bytes) -> tuple[str, int]:
    """Address and port. IPv4 mapped into IPv6 is told as IPv4; ("", 0) for other families."""
    family = data[1] if _HAS_LENGTH else int.from_bytes(data[:2], sys.byteorder)
    port = int.from_bytes(data[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8]), port
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, data[8:24]).removeprefix("::ffff:"), port
    return "", 0


def _head(family: int, size: int) -> bytes:
    return bytes((size, family)) if _HAS_LENGTH else family.to_bytes(2, sys.byteorder)
