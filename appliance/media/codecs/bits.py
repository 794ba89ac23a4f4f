"""Reading bits, most significant first, the way the video specifications write them."""

from __future__ import annotations

from appliance.errors import RemoteProtocolError


def unescape(nal: bytes) -> bytes:
    """The NAL unit without its emulation prevention bytes (H.264 7.4.1, H.265 7.4.2)."""
    return nal.replace(b"\0\0\3", b"\0\0") if b"\0\0\3" in nal else nal


class BitReader:
    """Reads ``data`` from bit ``position`` on. Reading past the end raises RemoteProtocolError."""

    __slots__ = ("_data", "_size", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._size = len(data) * 8
        self.position = position

    @property
    def left(self) -> int:
        """Bits not read yet."""
        return self._size - self.position

    def bits(self, count: int) -> int:
        """u(count): ``count`` bits as an unsigned number."""
        start = self.position
        end = start + count
        if end > self._size:
            raise RemoteProtocolError("bit stream ends early")
        self.position = end
        last = (end + 7) >> 3
        return (int.from_bytes(self._data[start >> 3 : last], "big") >> (last * 8 - end)) & ((1 << count) - 1)

    def flag(self) -> bool:
        """u(1) as a bool."""
        position = self.position
        if position >= self._size:
            raise RemoteProtocolError("bit stream ends early")
        self.position = position + 1
        return bool(self._data[position >> 3] >> (7 - (position & 7)) & 1)

    def skip(self, count: int) -> None:
        """Leave out ``count`` bits."""
        if self.position + count > self._size:
            raise RemoteProtocolError("bit stream ends early")
        self.position += count

    def ue(self) -> int:
        """ue(v): an unsigned Exp-Golomb number below 2**32 (H.264 9.1)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 31:
                raise RemoteProtocolError("Exp-Golomb number too long")
        return (1 << zeros) - 1 + self.bits(zeros) if zeros else 0

    def se(self) -> int:
        """se(v): a signed Exp-Golomb number (H.264 9.1.1)."""
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)

    def ue_below(self, limit: int, name: str) -> int:
        """ue(v) that must be below ``limit``; ``name`` is for the error."""
        value = self.ue()
        if value >= limit:
            raise RemoteProtocolError(f"{name} {value} is out of range")
        return value

    def align(self) -> None:
        """Go to the next byte."""
        self.position = (self.position + 7) & ~7
