"""The RTMP handshake: plain (RTMP 1.0 section 5.2) and with digests, as Flash players and servers do it.

In the second form a 32-byte HMAC-SHA256 lies inside the 1536 bytes of C1 and S1, at a place which four of those
bytes tell. There are two schemes for that place; a server answers in the scheme of the client.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from appliance.errors import RemoteProtocolError

VERSION = 3
SIZE = 1536

_SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_PLAYER = b"Genuine Adobe Flash Player 001"
_SERVER = b"Genuine Adobe Flash Media Server 001"
_DIGEST = 32
#: Where the four bytes stand whose sum tells the digest's place, by scheme.
_POINTERS = (8, 772)

RandomBytes = Callable[[int], bytes]


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _digest_at(block: bytes, scheme: int) -> int:
    pointer = _POINTERS[scheme]
    return pointer + 4 + sum(block[pointer : pointer + 4]) % 728


def _digest_of(block: bytes, at: int, key: bytes) -> bytes:
    return _hmac(key, block[:at] + block[at + _DIGEST :])


def find_digest(block: bytes, key: bytes) -> tuple[int, bytes] | None:
    """The scheme (0 or 1) and digest of a C1 or S1 signed with ``key``, None when there is no valid one."""
    for scheme in (0, 1):
        at = _digest_at(block, scheme)
        digest = block[at : at + _DIGEST]
        if hmac.compare_digest(digest, _digest_of(block, at, key)):
            return scheme, digest
    return None


def sign(block: bytes, scheme: int, key: bytes) -> tuple[bytes, bytes]:
    """``block`` with its digest put in, and that digest."""
    at = _digest_at(block, scheme)
    digest = _digest_of(block, at, key)
    return block[:at] + digest + block[at + _DIGEST :], digest


def _answer(peer_digest: bytes, full_key: bytes, random_bytes: RandomBytes) -> bytes:
    """S2 or C2 of the form with digests: random bytes, signed with a key made from the peer's digest."""
    random = random_bytes(SIZE - _DIGEST)
    return random + _hmac(_hmac(full_key, peer_digest), random)


class ServerHandshake:
    """``receive_data`` until it gives True; ``data_to_send`` is what goes out. What comes after C2 is in ``rest``."""

    def __init__(self, random_bytes: RandomBytes = os.urandom) -> None:
        self._random = random_bytes
        self._data = bytearray()
        self._out = b""
        self._answered = False
        self.rest = b""
        #: Whether the client signed its C1.
        self.digest = False

    def receive_data(self, data: bytes) -> bool:
        """True once C2 is there. Raises RemoteProtocolError for another version than 3."""
        self._data += data
        if self._data and self._data[0] != VERSION:
            raise RemoteProtocolError(f"RTMP version {self._data[0]}, expected {VERSION}")
        if not self._answered and len(self._data) >= 1 + SIZE:
            self._answer_c1(bytes(self._data[1 : 1 + SIZE]))
        if len(self._data) < 1 + 2 * SIZE:
            return False
        self.rest = bytes(self._data[1 + 2 * SIZE :])
        self._data.clear()
        return True

    def _answer_c1(self, c1: bytes) -> None:
        self._answered = True
        signed = find_digest(c1, _PLAYER) if c1[4:8] != bytes(4) else None
        if signed is None:
            s1 = bytes(8) + self._random(SIZE - 8)
            self._out += bytes([VERSION]) + s1 + c1
            return
        self.digest = True
        scheme, digest = signed
        s1, _ = sign(bytes(4) + b"\x04\x05\x00\x01" + self._random(SIZE - 8), scheme, _SERVER)
        self._out += bytes([VERSION]) + s1 + _answer(digest, _SERVER + _SUFFIX, self._random)

    def data_to_send(self) -> bytes:
        out, self._out = self._out, b""
        return out


class ClientHandshake:
    """The other side. ``digest``: sign C1 (some servers want that), in ``scheme`` 0 or 1."""

    def __init__(self, *, digest: bool = True, scheme: int = 0, random_bytes: RandomBytes = os.urandom) -> None:
        self._random = random_bytes
        self._data = bytearray()
        self.rest = b""
        c1 = bytes(4) + (b"\x80\x00\x07\x02" if digest else bytes(4)) + random_bytes(SIZE - 8)
        if digest:
            c1, _ = sign(c1, scheme, _PLAYER)
        self._out = bytes([VERSION]) + c1

    def receive_data(self, data: bytes) -> bool:
        """True once S2 is there; C2 then waits in ``data_to_send``. Raises RemoteProtocolError for another version."""
        self._data += data
        if self._data and self._data[0] != VERSION:
            raise RemoteProtocolError(f"RTMP version {self._data[0]}, expected {VERSION}")
        if len(self._data) < 1 + 2 * SIZE:
            return False
        s1 = bytes(self._data[1 : 1 + SIZE])
        signed = find_digest(s1, _SERVER) if s1[4:8] != bytes(4) else None
        self._out += s1 if signed is None else _answer(signed[1], _PLAYER + _SUFFIX, self._random)
        self.rest = bytes(self._data[1 + 2 * SIZE :])
        self._data.clear()
        return True

    def data_to_send(self) -> bytes:
        out, self._out = self._out, b""
        return out
